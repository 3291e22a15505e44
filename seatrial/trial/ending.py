"""How a trial is ended from outside: by SIGTERM, or by the end of the task that started it."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

PARENT_VARIABLE = "SEATRIAL_PARENT"
"""Process id of the task that has started pytest, and that pytest is not to outlive."""


def heed() -> None:
    """End as after Ctrl-C, containers removed, on SIGTERM and when the parent is killed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if parent := os.environ.get(PARENT_VARIABLE):
        threading.Thread(target=_watch, args=[int(parent)], daemon=True).start()


def heed_no_more() -> None:
    """Let a second Ctrl-C break off neither the report nor the removal of the containers.

    Only where `heed` was called: any other run of pytest may be broken off as often as one likes.
    """
    if signal.getsignal(signal.SIGTERM) is signal.default_int_handler:
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.SIG_IGN)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let no second Ctrl-C break off what is done inside: the removal of the containers."""
    before = {one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _watch(parent: int) -> None:
    with suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    os.kill(os.getpid(), signal.SIGTERM)
