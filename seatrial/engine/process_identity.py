"""Identity of a process, and of a boot of the kernel."""

from __future__ import annotations

from pathlib import Path

import psutil

_PROC = Path("/proc")
_BOOT = _PROC / "sys" / "kernel" / "random" / "boot_id"
_ENDED = ("Z", "X")


def boot() -> str:
    """Read the id of this boot; empty without Linux."""
    return _BOOT.read_text(encoding="utf-8").strip() if _BOOT.exists() else ""


def start_of(pid: int) -> str:
    """Read when a process started, independent of changes of the clock.

    On Linux that is the 22nd field of /proc/PID/stat, clock ticks since the boot (proc(5)). psutil
    adds the time of the boot, which the kernel computes from the clock at the time of the question.

    Raises:
        NoSuchProcess: no process has that number, or only a zombie.
    """
    if not (_PROC / "self" / "stat").exists():
        return str(psutil.Process(pid).create_time())
    try:
        status = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    # The second field, the program's name in parentheses, may hold blanks and parentheses.
    state, *fields = status.rpartition(")")[2].split()
    if state in _ENDED:
        raise psutil.NoSuchProcess(pid)
    return fields[18]
