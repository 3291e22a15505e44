"""The access log: a line for each request, written with those of others that end within 10 ms.

Each write wakes whoever collects the container's output. One for every line cost the engine's
processes more CPU time than all else that the front does for a small request. A front that is
killed loses the lines of its last 10 ms.
"""

from __future__ import annotations

import asyncio
from typing import TextIO

_DELAY = 0.01
"""Seconds: less than it takes to ask an engine for a log."""
_AT_ONCE = 4096
"""Bytes that Linux writes to a pipe in one piece (PIPE_BUF): workers write to the same one."""


class AccessLog:
    """Lines on their way to a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._length = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, line: str) -> None:
        """Write a line of ASCII soon."""
        if self._length + len(line) >= _AT_ONCE:
            self.flush()
        self._lines.append(f"{line}\n")
        self._length += len(line) + 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_DELAY, self.flush)

    def flush(self) -> None:
        """Write all lines now."""
        if self._timer:
            self._timer.cancel()
        lines, self._lines, self._length, self._timer = self._lines, [], 0, None
        if lines:
            self._stream.write("".join(lines))
            self._stream.flush()
