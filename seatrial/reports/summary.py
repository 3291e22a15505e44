"""The summary in Markdown, for the page of a CI job."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from seatrial.errors import printable
from seatrial.reports.model import Outcome, Verdict

if TYPE_CHECKING:
    from seatrial.reports.model import Image, Report

_MOST_FAILURES = 20
"""Failed tests that are named; a job's summary has a limit of a megabyte."""
_LONGEST = 300
"""Characters of one text that comes from tests."""
_STEERS = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&@:])")
"""Everything that Markdown, or GitHub's, takes for more than text: mentions and tables as well."""
_ORDER = tuple(Verdict)


def render(report: Report) -> str:
    """The summary as Markdown; what comes from images stands in it as text."""
    found = report.outcomes
    counts = ", ".join(f"{found[outcome]} {outcome.value}" for outcome in Outcome)
    title = "all promises are kept" if report.is_green else "red"
    if report.is_green and report.limits:
        title = "green, and limited"
    suite = f"{_text(report.suite.version)} ({_text(report.suite.commit[:12])})"
    run = f"{counts} in {report.seconds:.0f} s; stack {_text(report.stack)}, suite {suite}."
    lines = [f"## Trial: {title}", "", run, ""]
    if report.limits:
        lines += [f"Limited by {_text(', '.join(report.limits))}: not a whole trial.", ""]
    lines += ["| image | platform | digest | " + " | ".join(_ORDER) + " |"]
    lines += ["| --- | --- | --- |" + " ---: |" * len(_ORDER)]
    lines += [_row(image) for image in report.images]
    failed = report.failed
    if failed:
        lines += ["", "### Failures", ""]
        for test in failed[:_MOST_FAILURES]:
            promises = ", ".join(test.promises)
            lines.append(f"- {_text(test.id)}: {_text(promises)}")
        if len(failed) > _MOST_FAILURES:
            lines.append(f"- and {len(failed) - _MOST_FAILURES} more")
    return "\n".join([*lines, ""])


def _row(image: Image) -> str:
    verdicts = Counter(result.verdict for result in image.promises)
    mode = "native" if image.native else "emulated"
    digest = image.digest.removeprefix("sha256:")[:12]
    cells = (
        _text(image.name),
        f"{_text(image.platform)}, {mode}",
        _text(digest),
        *(str(verdicts[verdict]) for verdict in _ORDER),
    )
    return f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    line = printable(text)
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."
    return _STEERS.sub(r"\\\1", line)
