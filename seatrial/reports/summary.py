"""The summary in Markdown, for the page of a CI job."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from seatrial.reports.markdown import escaped
from seatrial.reports.model import Outcome, Verdict

if TYPE_CHECKING:
    from seatrial.reports.model import Image, Report

_MOST_FAILURES = 20
"""Failed tests that are named; a job's summary has a limit of a megabyte."""
_ORDER = tuple(Verdict)


def render(report: Report) -> str:
    """The summary as Markdown; what comes from images stands in it as text."""
    found = report.outcomes
    counts = ", ".join(f"{found[outcome]} {outcome.value}" for outcome in Outcome)
    title = "all promises are kept" if report.is_green else "red"
    if report.is_green and report.limits:
        title = "green, and limited"
    suite = f"{escaped(report.suite.version)} ({escaped(report.suite.commit[:12])})"
    run = f"{counts} in {report.seconds:.0f} s; stack {escaped(report.stack)}, suite {suite}."
    lines = [f"## Trial: {title}", "", run, ""]
    if report.limits:
        lines += [f"Limited by {escaped(', '.join(report.limits))}: not a whole trial.", ""]
    lines += ["| image | platform | digest | " + " | ".join(_ORDER) + " |"]
    lines += ["| --- | --- | --- |" + " ---: |" * len(_ORDER)]
    lines += [_row(image) for image in report.images]
    failed = report.failed
    if failed:
        lines += ["", "### Failures", ""]
        for test in failed[:_MOST_FAILURES]:
            promises = ", ".join(test.promises)
            lines.append(f"- {escaped(test.id)}: {escaped(promises)}")
        if len(failed) > _MOST_FAILURES:
            lines.append(f"- and {len(failed) - _MOST_FAILURES} more")
    return "\n".join([*lines, ""])


def _row(image: Image) -> str:
    verdicts = Counter(result.verdict for result in image.promises)
    mode = "native" if image.native else "emulated"
    digest = image.digest.removeprefix("sha256:")[:12]
    cells = (
        escaped(image.name),
        f"{escaped(image.platform)}, {mode}",
        escaped(digest),
        *(str(verdicts[verdict]) for verdict in _ORDER),
    )
    return f"| {' | '.join(cells)} |"
