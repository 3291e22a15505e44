"""The process that answers for a session, as a label names it, and whether it still lives.

The sessions of several machines may meet at one engine, and so may sessions of several containers
that were given the engine's socket. A process id means nothing outside its PID namespace: the owner
of another machine or namespace can't be looked up, so it counts as alive until its session is older
than any run lasts.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Self

import psutil

from seatrial.engine.process_identity import boot, start_of

MOST_SECONDS = 24 * 3600
"""Longest session whose owner can't be looked up, in seconds; the whole trial of every mutant, one
session after the other, takes some hours."""

_PROC = Path("/proc")
_EMPTY = "-"


@dataclass(frozen=True)
class Owner:
    """Process that starts things. Fields that the operating system doesn't have are empty."""

    host: str
    machine: str
    """Machine ID of systemd and D-Bus: it stays over a reboot."""
    boot: str
    """Boot ID of the kernel, which changes with every boot; all containers of a machine see it."""
    namespace: str
    """The PID namespace."""
    begun: int
    """Start of the session, in seconds since 1970."""
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> Self:
        """Describe the process that asks."""
        pid = os.getpid()
        return cls(
            host=socket.gethostname(),
            machine=_read(Path("/etc/machine-id")),
            boot=boot(),
            namespace=_namespace(),
            begun=int(time.time()),
            pid=pid,
            started=start_of(pid),
        )

    @classmethod
    def read(cls, label: str) -> Self | None:
        """Read what `str` writes; None for a label in another form."""
        words = ["" if word == _EMPTY else word for word in label.split(" ")]
        if len(words) != len(fields(cls)) or not (words[4].isdigit() and words[5].isdigit()):
            return None
        host, machine, boot, namespace, begun, pid, started = words
        return cls(host, machine, boot, namespace, int(begun), int(pid), started)

    def __str__(self) -> str:
        # Earlier versions read the last two words, and all before them as another host's name.
        return " ".join(str(word) or _EMPTY for word in astuple(self))

    def is_gone(self) -> bool:
        """Tell whether the process has ended, or can't be looked up and is older than any run."""
        here = Owner.this_process()
        same_machine = bool(self.machine) and (self.host, self.machine) == (here.host, here.machine)
        if same_machine and self.boot != here.boot:
            return True  # ended by the reboot
        if (self.host, self.boot, self.namespace) == (here.host, here.boot, here.namespace):
            try:
                return start_of(self.pid) != self.started
            except psutil.NoSuchProcess:
                return True
        return time.time() - self.begun > MOST_SECONDS


def _namespace() -> str:
    link = _PROC / "self" / "ns" / "pid"
    return str(link.readlink()) if link.is_symlink() else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
