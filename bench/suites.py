"""The suites of `invoke bench`, and how a suite runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bench import (
    ROOT,
    baking,
    emulated_builds,
    image_suite,
    limits_suite,
    report_table,
    serving_suite,
    trial_session,
    warm,
)
from bench.figures import FOLDER, SuiteReport
from bench.machine import describe
from bench.measuring import Stopwatch
from bench.processor import Processor
from bench.runner import Runner
from seatrial.console import make_console
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.figures import Figure

SUITES = {
    "build": ("emulation", "warm", "session"),
    "image": image_suite.PARTS,
    "serving": serving_suite.PARTS,
    "limits": limits_suite.PARTS,
}
"""The parts of each suite."""
_REPEAT = {"build": 1, "image": image_suite.REPEAT, "serving": serving_suite.REPEAT}
_IDLE_SECONDS = 10.0


def run(
    suite: str,
    *,
    parts: Sequence[str] = (),
    cold: bool = False,
    full: bool = False,
    repeat: int | None = None,
) -> SuiteReport:
    """Measure, print a table and write the report.

    Args:
        suite: of `SUITES`.
        parts: of the suite; none for all.
        cold: `build` also builds `custom` natively with its Python environment made anew.
        full: `build` also runs the whole trial on the native architecture.
        repeat: how often the composed and the emulated build are measured, or each server; None
            leaves it to the suite.

    Raises:
        UserError: an option is wrong, or a measurement failed; a bar that is not cleared is none.
    """
    if repeat is None:
        repeat = _REPEAT.get(suite, 1)
    chosen = choose(suite, parts, cold=cold, full=full, repeat=repeat)
    console = make_console()
    started = datetime.now(UTC)
    report = SuiteReport(
        suite,
        started.isoformat(timespec="seconds"),
        describe(),
        {"parts": chosen, "cold": cold, "full": full, "repeat": repeat},
    )
    runner = Runner(FOLDER / f"{report.stem}.log")
    watch = Stopwatch(Processor.find(), console)
    figures: list[Figure] = []
    watch.idle(_IDLE_SECONDS)
    if {"emulation", "warm"} & set(chosen):
        try:
            figures += _builds(watch, runner, chosen, cold=cold, repeat=repeat)
        finally:
            baking.remove_images()
    if "session" in chosen:
        figures += trial_session.measure(watch, runner, full=full)
    if suite == "image":
        figures += image_suite.measure(watch, chosen, repeat)
    if suite == "serving":
        figures += serving_suite.measure(watch, runner, chosen, repeat)
    if suite == "limits":
        figures += limits_suite.measure(watch, runner, chosen)
    report = replace(report, figures=tuple(figures), samples=tuple(watch.samples))
    report_table.show(report, console)
    console.print(f"written to {report.write().relative_to(ROOT)}", highlight=False)
    return report


def choose(
    suite: str, parts: Sequence[str], *, cold: bool, full: bool, repeat: int
) -> tuple[str, ...]:
    """Choose the parts to measure.

    Raises:
        UserError: an option is wrong, or asks for more of a part that is left out.
    """
    if suite not in SUITES:
        raise UserError(f"unknown suite {suite!r}: known are {', '.join(SUITES)}")
    known = SUITES[suite]
    for part in parts:
        if part not in known:
            raise UserError(f"unknown part {part!r}: known are {', '.join(known)}")
    chosen = tuple(part for part in known if part in (parts or known))
    for option, given, part in (("--cold", cold, "warm"), ("--full", full, "session")):
        if given and part not in known:
            raise UserError(f"{option} belongs to the suite 'build'")
        if given and part not in chosen:
            raise UserError(f"{option} belongs to the part {part!r}, which --part leaves out")
    if repeat < 1:
        raise UserError(f"--repeat {repeat}: at least one run is needed")
    return chosen


def _builds(
    watch: Stopwatch, runner: Runner, chosen: Sequence[str], *, cold: bool, repeat: int
) -> list[Figure]:
    with watch.measure("invoke build --platform all, to have everything up to date"):
        warm.build(runner, "--platform", "all")
    figures: list[Figure] = []
    with baking.baker(runner) as baker:
        if "emulation" in chosen:
            figures += emulated_builds.measure(watch, baker, repeat)
        if "warm" in chosen:
            figures += warm.measure(watch, runner, baker)
            if cold:
                figures.append(warm.measure_cold(watch, runner, baker))
    return figures
