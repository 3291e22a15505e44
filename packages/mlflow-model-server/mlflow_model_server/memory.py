"""Memory of the workers, and the choice of the one that ends when there is none left.

The kernel would end a process when a container's memory is used up; in many clusters, the whole
container (memory.oom.group). So the worker that takes it is ended shortly before that, and the
request that made it take it is named: the one whose thread has touched most new memory.
"""

from __future__ import annotations

import contextlib
import mmap
import resource
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
_PROCESSES = Path("/proc")
_PAGE = mmap.PAGESIZE
_HUGE_PAGE = 2 << 20
_FASTEST = 4 << 30
"""Bytes in a second that processes are taken to touch at most."""
_SHORTEST, _LONGEST = 0.01, 0.5
"""Seconds between two looks at the memory."""
_FORGET = 60.0
"""Seconds after which memory that a worker has taken counts as its own, not a request's."""
_SLOT = struct.Struct("QQ")
"""A thread's number, 0 while it has no request, and the pages that it had touched before."""
_NO_LIMIT = 1 << 60
_SCORE = 500
"""What is added to a worker's oom_score_adj: the kernel is to spare the process that answers HTTP,
and no worker of another container that counts for less."""
_MINOR_FAULTS = 7
"""Index of the field in /proc/PID/stat, behind the name (proc(5))."""


class Slots:
    """Memory that a worker shares with the manager: which threads have a request.

    Args:
        number: of its lanes.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._map = mmap.mmap(-1, max(_PAGE, number * _SLOT.size))

    def begin(self, lane: int) -> None:
        """Say that this thread has a request."""
        touched = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        _SLOT.pack_into(self._map, lane * _SLOT.size, threading.get_native_id(), touched)

    def end(self, lane: int) -> None:
        """Say that this thread has none."""
        _SLOT.pack_into(self._map, lane * _SLOT.size, 0, 0)

    def pages(self, pid: int) -> dict[int, int]:
        """The pages that each request of the worker has touched so far, by lane."""
        found = {}
        for lane in range(self._number):
            thread, before = _SLOT.unpack_from(self._map, lane * _SLOT.size)
            if thread and (now := _minor_faults(pid, thread)) is not None:
                found[lane] = max(0, now - before)
        return found

    def close(self) -> None:
        """Give the memory back."""
        self._map.close()


class Cgroup:
    """The memory of this container, by cgroup v2 or v1.

    Args:
        root: where its files are.
    """

    def __init__(self, root: Path = CGROUPS) -> None:
        second = (root / "memory.current").exists()
        folder = root if second else root / "memory"
        self._usage = folder / ("memory.current" if second else "memory.usage_in_bytes")
        self._events = folder / ("memory.events" if second else "memory.oom_control")
        self._stat = folder / "memory.stat"
        self._cached = (
            ("inactive_file", "active_file")
            if second
            else ("total_inactive_file", "total_active_file")
        )
        limit = _number(folder / ("memory.max" if second else "memory.limit_in_bytes"))
        self.limit = limit if limit is not None and limit < _NO_LIMIT else None
        """None where it isn't limited."""

    def used(self, at_least: int) -> int:
        """Bytes without what the kernel can drop; 0 where they are less than `at_least`."""
        usage = _number(self._usage) or 0
        if usage < at_least:
            return 0
        stat = _table(self._stat)
        return usage - sum(stat.get(name, 0) for name in self._cached)

    def kills(self) -> int:
        """Count the processes that the kernel has ended for want of memory."""
        return _table(self._events).get("oom_kill", 0)


@dataclass
class Usage:
    """A worker's memory, as it was last seen."""

    pid: int
    slots: Slots
    bytes: int = 0
    own: float = 0.0
    """What it has taken for longer than a request lasts."""
    seen: float = field(default_factory=time.monotonic)
    blamed: tuple[int, ...] = ()
    """The lanes whose requests may have taken what isn't its own."""

    @property
    def grown(self) -> float:
        """Bytes that its present requests have taken."""
        return max(0.0, self.bytes - self.own)

    def look(self, since: float) -> None:
        """See what it takes now.

        Args:
            since: bytes of growth that are worth to be blamed on somebody.
        """
        now = time.monotonic()
        self.bytes = _anonymous(self.pid)
        weight = min(1.0, (now - self.seen) / _FORGET)
        self.own = min(self.bytes, self.own + weight * (self.bytes - self.own))
        self.seen = now
        if self.grown >= since:
            huge = _huge(self.pid) > self.grown / 4
            self.blamed = blame(self.slots.pages(self.pid), self.grown, huge=huge)
        else:
            self.blamed = ()

    def settle(self) -> None:
        """Take all that it has for its own: its model is loaded."""
        self.bytes = _anonymous(self.pid)
        self.own, self.seen = self.bytes, time.monotonic()


def blame(pages: dict[int, int], grown: float, *, huge: bool) -> tuple[int, ...]:
    """The lanes that may have taken half of what a worker has grown by.

    Args:
        pages: that each has touched.
        grown: bytes.
        huge: some pages may have been huge ones.
    """
    size = _HUGE_PAGE if huge else _PAGE
    return tuple(lane for lane, touched in pages.items() if touched * size >= grown / 2)


class Watch:
    """Looks at the memory of workers, and says which one has to end.

    Args:
        cgroup: of the container.
        most: bytes that a worker may take; None for as many as there are.
    """

    def __init__(self, cgroup: Cgroup, most: int | None) -> None:
        self._cgroup = cgroup
        self._most = most
        self._kills = cgroup.kills()
        self.wait: float | None = _LONGEST if most or cgroup.limit else None
        """Seconds until the next look; None for ever."""

    def look(self, workers: dict[int, Usage]) -> tuple[int, str] | None:
        """The number of a worker that has to end, and why.

        Args:
            workers: all that have their model, by number.
        """
        if self.wait is None:
            return None
        limit = self._cgroup.limit
        share = min(bound for bound in (self._most, limit) if bound) // 16
        for usage in workers.values():
            usage.look(share)
        largest = max(workers, key=lambda number: workers[number].bytes, default=None)
        left = float("inf")
        if self._most and largest is not None:
            left = self._most - workers[largest].bytes
            if left < 0:
                return largest, f"it took more than {self._most} bytes of memory"
        if limit:
            kept = reserve(limit)
            used = self._cgroup.used(limit // 2)
            left = min(left, limit - kept - used)
            hungry = max(workers, key=lambda number: workers[number].grown, default=None)
            if used > limit - kept and hungry is not None and workers[hungry].grown >= kept:
                return hungry, f"it took what was left of {limit} bytes of memory"
        self.wait = min(_LONGEST, max(_SHORTEST, left / _FASTEST))
        return None

    def has_killed(self) -> bool:
        """Tell whether the kernel has ended a process since this was last asked."""
        before, self._kills = self._kills, self._cgroup.kills()
        return self._kills > before


def reserve(limit: int) -> int:
    """Bytes of a container's memory that no request gets: a worker is ended before that."""
    return min(256 << 20, max(16 << 20, limit // 32))


def offer_to_kernel() -> None:
    """Have the kernel end this process before the others of the container."""
    file = _PROCESSES / "self" / "oom_score_adj"
    score = int(file.read_text())
    # To raise it takes no privilege, but a sandbox may have its /proc for reading only.
    with contextlib.suppress(OSError):
        file.write_text(str(min(1000, score + _SCORE)))


def _anonymous(pid: int) -> int:
    """Bytes of a process that no file holds; 0 where it has ended."""
    try:
        words = (_PROCESSES / str(pid) / "statm").read_text().split()
    except OSError:
        return 0
    return (int(words[1]) - int(words[2])) * _PAGE


def _huge(pid: int) -> int:
    """Bytes of a process in huge pages."""
    try:
        lines = (_PROCESSES / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    found = [line.split() for line in lines if line.startswith("AnonHugePages:")]
    return int(found[0][1]) * 1024 if found else 0


def _minor_faults(pid: int, thread: int) -> int | None:
    """Pages that a thread has touched for the first time; None where it has ended."""
    try:
        text = (_PROCESSES / str(pid) / "task" / str(thread) / "stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[_MINOR_FAULTS])


def _number(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _table(file: Path) -> dict[str, int]:
    """Lines of a name and a number; empty where there is no such file."""
    try:
        rows = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
