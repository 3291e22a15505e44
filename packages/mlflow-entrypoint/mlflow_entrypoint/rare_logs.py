"""Bound the lines that what clients send can leave in the log."""

from __future__ import annotations

import logging
import time

WINDOW = 60.0
"""Seconds."""
LINES = 10
"""Warnings of one kind in a window."""


class _Rate(logging.Filter):
    """Drops warnings of one kind beyond a number, and says how many in the next that passes."""

    def __init__(self) -> None:
        super().__init__()
        self._since = 0.0
        self._counts: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        message, now = str(record.msg), time.monotonic()
        dropped = 0
        if now - self._since > WINDOW:
            dropped = max(0, self._counts.get(message, 0) - LINES)
            self._since, self._counts = now, {}
        self._counts[message] = self._counts.get(message, 0) + 1
        if dropped:
            record.msg = f"{message} ({dropped} more before this one were not logged)"
        return self._counts[message] <= LINES


def limit_rate(name: str) -> None:
    """Limit the warnings of the logger `name`: the kind is the message without its arguments."""
    logging.getLogger(name).addFilter(_Rate())
