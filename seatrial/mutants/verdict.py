"""Verdict of a run of the trial on an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from seatrial.contract import PromiseSelector
from seatrial.trial.parametrize import PROMISE_PROPERTY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from seatrial.mutants.mutant import Mutant

TESTS_FAILED = 1
"""Exit code of pytest."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a test."""

    test: str
    """Module and name, without the image's: `test_image: test_port_is_exposed[5000]`."""
    promises: tuple[PromiseSelector, ...]
    """Promises that it tries."""
    failure: str | None = None
    """The first line of why it failed; None where it didn't."""
    skipped: str = ""
    """Why it was skipped; empty where it wasn't."""


@dataclass(frozen=True)
class TrialRun:
    """Run of the trial on one image."""

    code: int
    """Exit code of pytest."""
    last_line: str
    """The last line that it printed: the error, where it ended with one."""
    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def failed(self) -> list[Outcome]:
        """The tests that failed."""
        return [outcome for outcome in self.outcomes if outcome.failure is not None]


@dataclass(frozen=True)
class Verdict:
    """What refused a mutant, if anything did."""

    mutant: Mutant
    seconds: float
    by: Outcome | None = None
    """The test that refused it."""
    why_not: str = ""
    """Reason why none did."""


def read(report: Path) -> tuple[Outcome, ...]:
    """Read the outcomes from a JUnit report of pytest; none where it was never written."""
    if not report.is_file():
        return ()
    cases = ET.parse(report).getroot().iter("testcase")  # noqa: S314 - written by our own pytest
    return tuple(map(_outcome, cases))


def _outcome(case: ET.Element) -> Outcome:
    fault = next((found for tag in ("failure", "error") for found in case.iter(tag)), None)
    properties = [
        element for element in case.iter("property") if element.get("name") == PROMISE_PROPERTY
    ]
    labelled = [element.get("value", "").rpartition(": ") for element in properties]
    left_out = case.find("skipped")
    module = case.get("classname", "").removeprefix("acceptance.")
    name = case.get("name", "").partition("@")[0]
    for label, _, _ in labelled:
        name = name.replace(f"{label}-", "").replace(f"[{label}]", "")
    return Outcome(
        test=f"{module}: {name}",
        promises=tuple(dict.fromkeys(PromiseSelector.parse(promise) for _, _, promise in labelled)),
        failure=None if fault is None else _first_line(fault),
        skipped="" if left_out is None else left_out.get("message") or "it doesn't say why",
    )


def _first_line(fault: ET.Element) -> str:
    message = fault.get("message") or fault.text or "it doesn't say why"
    return message.strip().splitlines()[0]


def judge(mutant: Mutant, run: TrialRun) -> Verdict:
    """Tell whether `run` refuses the mutant for the promise that it breaks, and for no other."""
    other = next(
        (outcome for outcome in run.failed if not set(outcome.promises) & set(mutant.broken)), None
    )
    by = next((outcome for outcome in run.failed if mutant.promise in outcome.promises), None)
    if run.code not in (0, TESTS_FAILED) or not run.outcomes:
        why_not = f"no test was run: {run.last_line}"
    elif other:
        names = ", ".join(map(str, other.promises))
        why_not = f"{other.test} names {names}: {other.failure}"
    elif by is None:
        why_not = f"nothing fails of {len(run.outcomes)} tests"
    else:
        return Verdict(mutant, run.seconds, by)
    return Verdict(mutant, run.seconds, why_not=why_not)


def untried(promises: Sequence[PromiseSelector], run: TrialRun) -> list[str]:
    """List those of `promises` for which no test of the run has passed."""
    passed = {
        selector
        for outcome in run.outcomes
        if outcome.failure is None and not outcome.skipped
        for selector in outcome.promises
    }
    return [str(promise) for promise in promises if promise not in passed]
