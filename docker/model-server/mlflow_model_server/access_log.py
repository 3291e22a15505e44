"""The access log: a line for each request, written with those of others that end at the same time.

Each write wakes whoever collects the container's output. One for every line cost the engine's
processes more CPU time than all else that the front does for a small request.
"""

from __future__ import annotations

import asyncio
from typing import TextIO

_DELAY = 0.01
"""Seconds: less than it takes to ask an engine for a log."""


class AccessLog:
    """Lines on their way to a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        """Write a line soon."""
        if not self._lines:
            asyncio.get_running_loop().call_later(_DELAY, self.flush)
        self._lines.append(f"{line}\n")

    def flush(self) -> None:
        """Write all lines now."""
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write("".join(lines))
            self._stream.flush()
