"""The report for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from bench.figures import Meaning

if TYPE_CHECKING:
    from rich.console import Console

    from bench.figures import Figure, SuiteReport

_MET = {True: "met", False: "NOT MET", None: ""}
_COLUMNS = ("measured", "value", "against", "baseline", "ratio", "bar", "")


def show(report: SuiteReport, console: Console) -> None:
    """Print a report."""
    console.print(f"{report.started}  {report.machine}", highlight=False, markup=False)
    console.print(of(report))
    for figure in report.figures:
        if figure.note:
            console.print(f"{figure.name}: {figure.note}", highlight=False, markup=False)
    disturbed = sum(sample.disturbed for sample in report.samples)
    if disturbed:
        console.print(
            f"{disturbed} of {len(report.samples)} runs shared the machine with other work: "
            "repeat them on an idle one before you rely on them",
            highlight=False,
        )


def of(report: SuiteReport) -> Table:
    """Make the table."""
    table = Table(title=f"bench {report.suite}", title_justify="left")
    for column in _COLUMNS:
        numeric = column in {"value", "baseline", "ratio"}
        table.add_column(column, justify="right" if numeric else "left", no_wrap=numeric)
    for figure in report.figures:
        table.add_row(*row(figure))
    return table


def row(figure: Figure) -> tuple[str, ...]:
    """Word one figure."""
    bar = ""
    if figure.bar:
        # A bar on the value has its unit, one on the ratio has none.
        unit = f" {figure.unit}" if figure.bar.value is not None else ""
        bar = f"{figure.bar}{unit}"
    return (
        figure.name,
        f"{number(figure.value)} {figure.unit}",
        figure.against,
        f"{number(figure.baseline)} {figure.unit}",
        "" if figure.ratio is None else f"{_ratio(figure, figure.ratio)}x",
        bar,
        _MET[figure.met],
    )


def _ratio(figure: Figure, ratio: float) -> str:
    return number(ratio) if figure.meaning is Meaning.TIMES_LESS else f"{ratio:.2f}"


def number(value: float) -> str:
    """Write no more digits than such a measurement has."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
