"""End a worker whose event loop hangs, so that another takes its place.

Uvicorn asks its workers whether they live, but a thread answers for the loop: it notices a process
that is stopped, not a loop that waits for a lock for ever.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

LIMIT = 90.0
"""Seconds: longer than a call to a database may block the loop (`database_limits`)."""
PERIOD = 5.0
"""Seconds between two looks. A process that was stopped itself has the time to answer after it."""


def start(loop: AbstractEventLoop) -> None:
    """Watch `loop` from a thread."""
    threading.Thread(target=_watch, args=(loop,), name="watchdog", daemon=True).start()


def _watch(loop: AbstractEventLoop) -> None:
    while not loop.is_closed():
        missed = 0.0
        answered = _ask(loop)
        # In small steps: a clock that jumps while the whole container is paused counts as one.
        while not answered.wait(PERIOD):
            missed += PERIOD
            if missed >= LIMIT:
                _end()
        time.sleep(PERIOD)


def _ask(loop: AbstractEventLoop) -> threading.Event:
    answered = threading.Event()
    try:
        loop.call_soon_threadsafe(answered.set)
    except RuntimeError:  # closed meanwhile: the worker ends
        answered.set()
    return answered


def _end() -> None:
    sys.stderr.write(f"worker {os.getpid()} has hung for {LIMIT:g} s and is killed; it was here:\n")
    faulthandler.dump_traceback(sys.__stderr__)  # type: ignore[arg-type] # there is one
    os.kill(os.getpid(), signal.SIGKILL)
