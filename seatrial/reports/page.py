"""The report as one page of HTML that needs nothing beside it."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from seatrial.errors import plain
from seatrial.reports.matrix import rows
from seatrial.reports.model import Outcome, Verdict

if TYPE_CHECKING:
    from jinja2 import Template

    from seatrial.reports.model import Report

_LONGEST = 200_000
"""Characters of one log: a browser still opens a page with some of these."""
_SLOWEST = 20
"""Tests that the table of times names."""


def render(report: Report) -> str:
    """The page.

    What comes from images is escaped by Jinja, wherever it stands, and the script on the page holds
    no data: it reads classes and texts of the page itself.
    """
    return _template().render(
        report=report,
        rows=rows(report),
        outcomes=Outcome,
        verdicts=Verdict,
        slowest=sorted(report.tests, key=lambda test: -test.seconds)[:_SLOWEST],
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("seatrial.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["log"] = _log
    environment.filters["word"] = _word
    return environment.get_template("report.html.j2")


def _log(text: str) -> str:
    """Text that others may have written, line by line, without what steers a terminal."""
    kept = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n... (cut)"
    return "\n".join(plain(line) for line in kept.splitlines())


def _word(text: str) -> str:
    """A name that a class of the page may have."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())
