"""The answers that the front holds for clients who haven't read them: a bounded number of bytes.

Clients read as slowly as they like. Answers are read from the workers only while there is room for
them; where there is none, those who read slowest lose their connections.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE = 65536
"""Bytes of an answer that are written at a time; an answer that is no longer isn't counted."""
_AT_LEAST = 1.0
"""Seconds that a client has for an answer, whoever waits for the room."""
_AGAIN = 0.25
"""Seconds until those who wait for room look for slow clients again."""


@dataclass
class Sending:
    """An answer that its client reads."""

    size: int
    began: float
    abort: Callable[[], None]
    sent: int = 0
    aborted: bool = False


class Unsent:
    """Counts bytes of answers.

    Args:
        limit: the most that are held.
    """

    def __init__(self, limit: int) -> None:
        self.held = 0
        self._limit = limit
        self._sending: list[Sending] = []
        self._waiting: deque[tuple[int, Callable[[int], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def reserve(self, size: int, later: Callable[[int], None]) -> bool:
        """Reserve room for an answer, or have it reserved as soon as there is some.

        Args:
            size: its bytes.
            later: called with what has been reserved, where that isn't done at once.
        """
        if size <= PIECE:
            return True
        if not self._waiting and self._fits(size):
            self.held += size
            return True
        self._waiting.append((size, later))
        self._admit()
        return False

    def release(self, size: int) -> None:
        """Give room back."""
        if size > PIECE:
            self.held -= size
            self._admit()

    @contextmanager
    def sending(self, size: int, abort: Callable[[], None]) -> Iterator[Sending]:
        """Count a client as one that reads an answer.

        Args:
            size: what is reserved for it.
            abort: ends its connection.
        """
        sending = Sending(size, asyncio.get_running_loop().time(), abort)
        self._sending.append(sending)
        try:
            yield sending
        finally:
            self._sending.remove(sending)

    def _fits(self, size: int) -> bool:
        # The workers make no answer that is longer than the limit, but for other paths' errors.
        return self.held == 0 or self.held + size <= self._limit

    def _admit(self) -> None:
        """Give room to those who wait, first come, first served."""
        while self._waiting:
            size, later = self._waiting[0]
            if not self._fits(size):
                self._end_slowest(size)
                if self._timer is None:
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(_AGAIN, self._look_again)
                return
            self._waiting.popleft()
            self.held += size
            later(size)

    def _look_again(self) -> None:
        self._timer = None
        self._admit()

    def _end_slowest(self, size: int) -> None:
        """End connections until there will be room; they release theirs when they have ended."""
        now = asyncio.get_running_loop().time()
        slow = [sending for sending in self._sending if now - sending.began >= _AT_LEAST]
        slow.sort(key=lambda sending: (not sending.aborted, sending.sent / (now - sending.began)))
        missing = self.held + size - self._limit
        for sending in slow:
            if missing <= 0:
                return
            missing -= sending.size
            if not sending.aborted:
                sending.aborted = True
                sending.abort()
