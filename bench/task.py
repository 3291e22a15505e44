"""`invoke bench`, a task of this repository alone: it measures its images and history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seatrial.tasks import command

if TYPE_CHECKING:
    from invoke.context import Context


@command(
    iterable=["part"],
    help={
        "suite": "what to measure: build, image, serving or limits",
        "part": "of build: emulation, warm or session; of image: size, serving or settings;"
        " of serving: build, size, serving, faults, floor or settings; of limits: framing, heads,"
        " connections, overload, hang or clients; may be given more than once",
        "cold": "build: also build custom with its Python environment made anew",
        "full": "build: also run the whole trial on the native architecture",
        "repeat": "how often the emulated build, or each server, is measured (default: 1, 3 and 3)",
    },
)
def bench(
    context: Context,
    suite: str,
    part: list[str],
    cold: bool = False,
    full: bool = False,
    repeat: int = 0,
) -> None:
    """Measure what images cost to build, to try and to run, against a baseline."""
    from bench import suites

    suites.run(suite, parts=part, cold=cold, full=full, repeat=repeat or None)
