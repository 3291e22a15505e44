"""A limit in time for what can't be interrupted, such as a driver that waits for an answer."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow_entrypoint.errors import say

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILED = 1
"""The exit code of a server that couldn't start."""


@contextmanager
def time_limit(seconds: float, message: str) -> Iterator[None]:
    """End this process with one line where the body takes longer.

    A database that accepts connections and never answers holds most drivers for ever: libpq has no
    limit for an answer, and goes on waiting after a signal.
    """

    def end() -> None:
        say(message)
        os._exit(FAILED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        # No thread may be there when a process is forked.
        timer.join()
