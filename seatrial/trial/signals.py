"""End of a trial from outside: by SIGTERM, or by the end of the task that started it."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PARENT_VARIABLE = "SEATRIAL_PARENT"
"""Process id of the task that has started pytest, and that pytest is not to outlive."""


def install_signal_handlers() -> None:
    """End as after Ctrl-C, containers removed, on SIGTERM and when the parent is killed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if parent := os.environ.get(PARENT_VARIABLE):
        threading.Thread(target=_watch, args=[int(parent)], daemon=True).start()


def ignore_further_signals() -> None:
    """Ignore further Ctrl-C: the report and the cleanup must finish.

    Only where `install_signal_handlers` was called: any other run of pytest may be interrupted as
    often as a person likes.
    """
    if signal.getsignal(signal.SIGTERM) is signal.default_int_handler:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def signals_ignored() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM inside the block: the removal of the containers must finish."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(parent: int) -> None:
    import psutil

    with suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    os.kill(os.getpid(), signal.SIGTERM)
