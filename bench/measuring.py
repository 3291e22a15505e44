"""Measurement of a run: wall-clock time and CPU time."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil

from bench.figures import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from bench.processor import Processor, Times

# Of all cores: what an otherwise idle machine's daemons take stays well below.
_BUSY_SHARE = 0.10
_BUILD_CLIENT = "docker-buildx"


class Stopwatch:
    """Measures runs, prints a line about each, and keeps the samples in their order."""

    def __init__(self, processor: Processor, console: Console) -> None:
        self.processor = processor
        self.samples: list[Sample] = []
        self._console = console

    @contextmanager
    def measure(
        self, label: str, *, containers: bool = False, own: Callable[[], float] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Measure the block, which may add details to the yielded dictionary.

        Args:
            label: what it does.
            containers: whether the run starts containers. Their CPU time can't be told from that
                of other programs, so only other builds mark such a run as disturbed.
            own: with `containers`, reads the CPU seconds of the measured containers and of this
                process, so that other programs' CPU time can be told.
        """
        detail: dict[str, Any] = {}
        foreign = builds_at_work()
        used = own() if own else 0.0
        before, start = self.processor.read(), time.monotonic()
        yield detail
        seconds = time.monotonic() - start
        times = self.processor.read().since(before)
        used = own() - used if own else 0.0
        can_tell = own is not None or not containers
        disturbed = (
            foreign or builds_at_work() or (can_tell and machine_is_busy(times, seconds, used))
        )
        self.samples.append(Sample(label, seconds, times, disturbed, detail))
        self._console.print(
            f"{seconds:5.0f}s  {times.total:5.0f} CPU s  {label}"
            f"{'  (the machine was busy)' if disturbed else ''}",
            highlight=False,
            markup=False,
        )

    def tell(self, text: str) -> None:
        """Print a line among those of the runs."""
        self._console.print(text, highlight=False, markup=False)

    def last(self, count: int) -> list[Sample]:
        """Return the newest samples."""
        return self.samples[-count:]

    def idle(self, seconds: float) -> None:
        """Measure the idle engine: the noise."""
        with self.measure("nothing"):
            time.sleep(seconds)


def machine_is_busy(times: Times, seconds: float, own: float = 0.0) -> bool:
    """Tell whether others took a noticeable part of the machine.

    Args:
        times: of a run.
        seconds: how long it was on the wall.
        own: CPU seconds that it took beside the engine's and the client's.
    """
    cores = psutil.cpu_count() or 1
    return times.machine - times.total - own > _BUSY_SHARE * cores * seconds


def builds_at_work() -> bool:
    """Tell whether somebody else's build runs on this machine."""
    return any(process.info["name"] == _BUILD_CLIENT for process in psutil.process_iter(["name"]))
