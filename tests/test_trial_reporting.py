"""What a run says at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest

from seatrial.trial.parametrize import PROMISE_PROPERTY
from seatrial.trial.reporting import summarise

if TYPE_CHECKING:
    from collections.abc import Sequence


class Terminal:
    """Collects what would be written."""

    def __init__(self, **stats: Sequence[object]) -> None:
        self.stats = stats
        self.lines: list[str] = []

    def section(self, title: str, **_: Any) -> None:
        """Begin a section."""
        self.lines.append(f"-- {title}")

    def write_line(self, line: str) -> None:
        """Write a line."""
        self.lines.append(line)


def _report(outcome: Literal["passed", "failed"], *promises: str) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid="test",
        location=("test", 0, "test"),
        keywords={},
        outcome=outcome,
        longrepr=None,
        when="call",
        user_properties=[(PROMISE_PROPERTY, f"one-amd64: {promise}") for promise in promises],
    )


def _lines(left_out: Sequence[str] = (), **stats: Sequence[object]) -> list[str]:
    terminal: Any = Terminal(**stats)
    summarise(terminal, None, left_out)
    return list(terminal.lines)


def test_broken_promises_are_named_once_by_image() -> None:
    assert _lines(
        passed=[_report("passed", "server.capabilities[ui]")],
        failed=[_report("failed", "process.keeps_data"), _report("failed", "process.keeps_data")],
        error=[_report("failed", "server.databases[sqlite]")],
    ) == [
        "-- promises that one-amd64 does not keep",
        "process.keeps_data",
        "server.databases[sqlite]",
    ]


def test_what_is_no_report_is_passed_over(request: pytest.FixtureRequest) -> None:
    assert _lines(deselected=[request.node], warnings=[object()]) == []


def test_what_was_left_out_is_named_once() -> None:
    assert _lines(left_out=["b: native only", "a: native only", "b: native only"]) == [
        "-- left out",
        "a: native only",
        "b: native only",
    ]
