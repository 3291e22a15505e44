"""Slowness of this machine: the factor of every time limit.

Limits are set for an idle machine. On one that is slower, or busy with other work, they would end
what is merely late. So a known piece of work is timed: before the first test, before later ones,
and again whenever a wait has reached its limit.

The factor never falls in a process. A server may have got a time limit from it, and a test that
asks this server later has to wait at least as long.
"""

from __future__ import annotations

import time
import zlib
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REFERENCE = 0.11
"""Seconds that `work` takes on an idle core of the machine for which the limits were set."""
BEST_OF = 3
"""Pieces of work for one measurement: what the trial itself does for a moment slows one of them."""
FRESH = 20.0
"""Seconds for which a measurement is taken to hold."""
NOTICEABLE = 1.5
"""The slowdown from which a message mentions it."""


class MachineSpeed:
    """The machine's slowdown, as one process has measured it."""

    def __init__(self, measure: Callable[[], float] | None = None) -> None:
        """Start as an idle machine; nothing is measured yet.

        Args:
            measure: returns the slowdown now: 1.0 on an idle machine, 4.0 where everything takes
                four times as long.
        """
        self._measure = measure or slowdown
        self._measured_at = float("-inf")
        self.slowdown = 1.0
        """The last measurement."""
        self.factor = 1
        """Factor of time limits: the largest measurement so far, rounded down."""

    def refresh(self, *, fresh: float = FRESH) -> int:
        """Measure, unless the last measurement is younger than `fresh` seconds.

        Returns:
            the factor.
        """
        if time.monotonic() - self._measured_at >= fresh:
            self.slowdown = self._measure()
            self.factor = max(self.factor, int(self.slowdown))
            self._measured_at = time.monotonic()
        return self.factor

    @property
    def sentence(self) -> str:
        """What there is to say about the machine; empty for one that is as fast as expected."""
        if self.factor == 1 and self.slowdown < NOTICEABLE:
            return ""
        return (
            f"time limits are multiplied by {self.factor}: a known piece of work last took"
            f" {self.slowdown:.1f} times as long as on an idle machine"
        )

    @property
    def remark(self) -> str:
        """The same as what a message adds, in parentheses."""
        return f" ({self.sentence})" if self.sentence else ""


def slowdown() -> float:
    """Time the known piece of work, and compare it with `REFERENCE`."""
    seconds = []
    for _ in range(BEST_OF):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds) / REFERENCE


def work() -> None:
    """Compress a megabyte of text: zlib releases the interpreter's lock meanwhile.

    So other threads of the trial, which mostly wait, do not count as a slow machine.
    """
    zlib.compress(_text(), 6)


@cache
def _text() -> bytes:
    return b"".join(b"%d " % (number * number) for number in range(100_000))


MACHINE_SPEED = MachineSpeed()
"""Speed that this process uses: there is one machine."""
