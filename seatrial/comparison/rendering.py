"""A comparison as text, as JSON, and as Markdown for release notes."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from seatrial.console import make_console
from seatrial.errors import printable
from seatrial.reports.markdown import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seatrial.comparison.model import Change, Comparison

_WIDTH = 110
_LONGEST = 120
"""Characters of a value; JSON has all of it."""
_MEGABYTE = 1_000_000


def render(found: Comparison, form: str) -> str:
    """Give the comparison in one of its forms: `text`, `json` or `markdown`."""
    if form == "json":
        return found.model_dump_json(indent=2) + "\n"
    return _markdown(found) if form == "markdown" else _text(found)


def show(text: str) -> None:
    """Print it as it is."""
    make_console().print(Text(text.rstrip("\n")), soft_wrap=True)


def _parts(found: Comparison) -> Iterator[tuple[str, tuple[Change, ...]]]:
    yield "Promises", found.promises
    yield "Python packages", found.python
    yield "Debian packages", found.debian
    yield "Settings", found.settings


def _untold(found: Comparison) -> str:
    """Say why promises are not compared; nothing where they are."""
    silent = [side.reference for side in (found.old, found.new) if not side.promised]
    return f"not compared: no contract for {' and '.join(silent)}" if silent else ""


def _sizes(found: Comparison) -> str:
    old, new = found.old, found.new
    return (
        f"{old.size / _MEGABYTE:.1f} MB in {old.layers} layers before,"
        f" {new.size / _MEGABYTE:.1f} MB in {new.layers} now;"
        f" {found.shared / _MEGABYTE:.1f} MB are the same layers"
    )


def _text(found: Comparison) -> str:
    console = Console(file=StringIO(), width=_WIDTH)
    console.print(Text(f"{found.old.reference} -> {found.new.reference} ({found.platform})"))
    console.print(Text(_sizes(found)))
    for title, listed in _parts(found):
        if not listed:
            untold = _untold(found) if title == "Promises" else ""
            console.print(Text(f"{title}: {untold or 'the same'}"))
            continue
        console.print(Text(f"{title}: {_counts(listed)}"))
        table = Table("", "before", "now")
        for change in listed:
            table.add_row(*map(Text, (_cut(change.name), _cut(change.old), _cut(change.new))))
        console.print(table)
    for layer in found.layers:
        size = f"{layer.size / _MEGABYTE:.1f} MB"
        console.print(Text(f"layer {layer.digest[7:19]}: {layer.side} alone, {size}"))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def _markdown(found: Comparison) -> str:
    lines = [f"## {escaped(found.old.reference)} → {escaped(found.new.reference)}", ""]
    lines += [f"{escaped(found.platform)}: {_sizes(found)}.", ""]
    for title, listed in _parts(found):
        untold = _untold(found) if title == "Promises" else ""
        lines += [f"### {title}: {escaped(untold) or _counts(listed)}", ""]
        if listed:
            lines += ["| | before | now |", "| --- | --- | --- |"]
            lines += [
                f"| {escaped(_cut(each.name))} | {escaped(_cut(each.old))} |"
                f" {escaped(_cut(each.new))} |"
                for each in listed
            ]
            lines.append("")
    return "\n".join(lines)


def _counts(listed: tuple[Change, ...]) -> str:
    added = sum(change.old is None for change in listed)
    removed = sum(change.new is None for change in listed)
    return f"{added} added, {removed} removed, {len(listed) - added - removed} changed"


def _cut(value: str | None) -> str:
    text = "-" if value is None else printable(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
