"""The matrix of promises and images, which the page and the summary show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seatrial.reports.model import PromiseResult, Report


@dataclass(frozen=True)
class Row:
    """A promise, and what each image does with it."""

    promise: str
    cells: tuple[PromiseResult | None, ...]
    """One for each image; None where it does not make the promise."""

    @property
    def verdicts(self) -> str:
        """The different verdicts in the row, as words that a filter finds."""
        found = dict.fromkeys(cell.verdict.value for cell in self.cells if cell)
        return " ".join(verdict.replace(" ", "-") for verdict in found)


def rows(report: Report) -> list[Row]:
    """A row for each promise that an image makes, in the order of the contracts."""
    by_image = [{result.name: result for result in image.promises} for image in report.images]
    names = dict.fromkeys(name for results in by_image for name in results)
    return [Row(name, tuple(results.get(name) for results in by_image)) for name in names]
