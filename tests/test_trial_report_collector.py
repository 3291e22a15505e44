"""What a report says about each promise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from seatrial.contract import PromiseSelector
from seatrial.reports.model import Outcome, Test, Verdict
from seatrial.trial.options import TrialOptions
from seatrial.trial.report_collector import results
from seatrial.trial.sources import ReferencedImage

if TYPE_CHECKING:
    from pathlib import Path

CONTRACT = """
description = "made up"
[image]
exposed_ports = [5000]
[server]
databases = ["sqlite"]
"""
SQLITE = "server.databases[sqlite]"
PASSED, FAILED, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED


@pytest.fixture
def source(tmp_path: Path) -> ReferencedImage:
    """An image that promises a port and a database."""
    path = tmp_path / "contract.toml"
    path.write_text(CONTRACT)
    return ReferencedImage.of("made/up", "made/up:1", "linux/amd64", "linux/amd64", path)


@pytest.mark.parametrize(
    ("outcomes", "limits", "verdict"),
    [
        ((PASSED, PASSED), (), Verdict.KEPT),
        ((PASSED, SKIPPED), (), Verdict.KEPT),
        ((PASSED, FAILED), (), Verdict.BROKEN),
        ((FAILED,), ("-k",), Verdict.BROKEN),
        ((SKIPPED,), (), Verdict.SKIPPED),
        ((PASSED,), ("-k",), Verdict.PARTLY_TRIED),
        ((), ("-k",), Verdict.NOT_TRIED),
        ((), (), Verdict.NOT_TRIED),
    ],
)
def test_verdict_on_a_promise(
    source: ReferencedImage,
    outcomes: tuple[Outcome, ...],
    limits: tuple[str, ...],
    verdict: Verdict,
) -> None:
    tests = [
        Test(id=f"test_{n}", image=source.label, promises=(SQLITE,), outcome=outcome, seconds=1)
        for n, outcome in enumerate(outcomes)
    ]
    found = {each.name: each for each in results(source, tests, TrialOptions(), limits)}
    assert found[SQLITE].verdict is verdict
    assert found["image.exposed_ports[5000]"].verdict is Verdict.NOT_TRIED


def test_promise_that_was_asked_for_is_tried_whole(source: ReferencedImage) -> None:
    options = TrialOptions(promises=(PromiseSelector.parse(SQLITE),))
    test = Test(id="test", image=source.label, promises=(SQLITE,), outcome=PASSED, seconds=1)
    verdicts = {}
    for limits in ((f"--promise {SQLITE}",), (f"--promise {SQLITE}", "-k")):
        found = results(source, [test], options, limits)
        verdicts[limits] = next(each.verdict for each in found if each.name == SQLITE)
    assert list(verdicts.values()) == [Verdict.KEPT, Verdict.PARTLY_TRIED]
