"""The report on this machine, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from seatrial.engine.plan import CheckState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seatrial.engine.facts import Facts
    from seatrial.engine.plan import Check

_MARKS = {
    CheckState.FINE: "[green]ok[/]",
    CheckState.NOTE: "[yellow]note[/]",
    CheckState.FAULT: "[bold red]fault[/]",
}


def table(facts: Facts, checks: Sequence[Check]) -> Table:
    """Make a table with a row for each check: part, state, detail and remedy."""
    result = Table(title=f"{facts.system.name}, {facts.platform}", box=SIMPLE_HEAD)
    result.add_column("part", no_wrap=True)
    result.add_column("state", no_wrap=True)
    result.add_column("what is there", overflow="fold")
    mendable = any(check.mend for check in checks)
    if mendable:
        result.add_column("how to mend it", overflow="fold")
    for check in checks:
        cells = [check.subject, _MARKS[check.state], escape(check.detail)]
        result.add_row(*cells, *([escape(check.mend)] if mendable else []))
    return result
