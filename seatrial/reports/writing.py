"""Writes the files of a report into a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seatrial import files
from seatrial.errors import UserError
from seatrial.reports import page, summary

if TYPE_CHECKING:
    from pathlib import Path

    from seatrial.reports.model import Report

JSON, JUNIT, HTML, MARKDOWN = "report.json", "junit.xml", "report.html", "summary.md"
"""Names of the files; pytest itself writes the one of JUnit."""


def write(report: Report, folder: Path) -> None:
    """Write `report.json`, `report.html` and `summary.md`; the folder is made where it is missing.

    Raises:
        UserError: the folder can't be written to.
    """
    texts = {
        JSON: report.model_dump_json(indent=2) + "\n",
        HTML: page.render(report),
        MARKDOWN: summary.render(report),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            files.write_atomically(folder / name, text)
    except OSError as error:
        raise UserError(f"the report can't be written to {folder}: {error.strerror}") from None
