"""Tables of promises for people: `invoke promises`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from seatrial.contract.declarations import declarations
from seatrial.contract.loading import load
from seatrial.contract.promises import promises_of
from seatrial.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_WIDEST = {"value": 34, "tried": 11, "needs": 22}
"""Characters of a column, so that there is room for the meaning."""


def of_schema() -> Table:
    """Show every key that a contract can promise."""
    return _table(
        "what a contract can promise",
        ("promise", "value", "tried", "needs", "meaning"),
        (
            (
                declaration.key,
                declaration.value,
                declaration.tried,
                declaration.requirements,
                declaration.summary,
            )
            for declaration in declarations().values()
        ),
    )


def of_contract(path: Path) -> Table:
    """Show what a contract promises, with what it takes over from others.

    Raises:
        UserError: it is no contract.
    """
    contract = load(path)
    return _table(
        printable(f"{path}: {contract.description}"),
        ("promise", "value", "needs", "meaning"),
        (
            (
                printable(str(promise)),
                "" if promise.item == str(promise.value) else json.dumps(promise.value),
                ", ".join(sorted(need.label for need in promise.needs)),
                promise.declaration.summary,
            )
            for promise in promises_of(contract)
        ),
    )


def _table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    table = Table(title=Text(title), title_justify="left")
    for column in columns:
        # A name that is broken into lines can't be copied.
        whole = column == "promise"
        width = _WIDEST.get(column)
        table.add_column(column, no_wrap=whole, overflow="fold", max_width=width)
    for row in rows:
        table.add_row(*map(Text, row))
    return table
