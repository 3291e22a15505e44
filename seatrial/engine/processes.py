"""What tells one process, and one run of the kernel, from all others."""

from __future__ import annotations

from pathlib import Path

import psutil

_PROC = Path("/proc")
_BOOT = _PROC / "sys" / "kernel" / "random" / "boot_id"
_ENDED = ("Z", "X")


def boot() -> str:
    """Read what the kernel calls this boot; empty where there is no Linux."""
    return _BOOT.read_text(encoding="utf-8").strip() if _BOOT.exists() else ""


def start_of(pid: int) -> str:
    """Tell when a process started, in a form that a step of the clock does not change.

    On Linux that is the 22nd field of /proc/PID/stat, clock ticks since the boot (proc(5)). psutil
    adds the time of the boot, which the kernel computes from the clock at the time of the question.

    Raises:
        NoSuchProcess: there is none of that number, or it has ended and nobody has reaped it.
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
