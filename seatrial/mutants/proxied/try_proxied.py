"""`nox -s mutants -- --proxied`: how many faults of a proxy the differential trial refuses."""

from __future__ import annotations

import random
import tomllib
import warnings
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.progress import track
from rich.table import Table

from seatrial.console import make_console
from seatrial.differential import reference
from seatrial.mutants.proxied import trial
from seatrial.mutants.proxied.faults import RECEIVED, SENT
from seatrial.trial.endpoints import Router

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from seatrial.mutants.proxied.trial import ProxiedVerdict

EXPLAINED = Path(__file__).with_name("explained.toml")
"""Faults that no client can notice, with the reason."""
LEAST_RATE = 98
"""Percent of the mutants that have to be refused."""
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def run(sample: int | None, seed: int, jobs: int) -> int:
    """Try mutants, and show the share of them that was refused, by endpoint.

    Args:
        sample: how many are tried, drawn by the seed; None for all of them.
        seed: of the sample, and of the generated sequences.
        jobs: how many are tried at a time.

    Returns:
        0 where enough of them were refused, else 1.

    Raises:
        UserError: MLflow's own server, which they stand before, does not start.
    """
    console, router = make_console(), Router()
    warnings.simplefilter("ignore")  # what MLflow deprecates is tried as well
    with pytest.MonkeyPatch.context() as patch, reference.running() as server:
        for name, value in _ENVIRONMENT.items():
            patch.setenv(name, value)
        recordings = list(trial.record(server, router, seed))
        every = trial.possible(recordings, router)
        chosen = random.Random(seed).sample(every, min(sample or len(every), len(every)))  # noqa: S311
        judge = partial(
            trial.judge, server=server, router=router, recordings=recordings, explained=reason_of
        )
        with ThreadPoolExecutor(jobs) as pool:
            found = track(pool.map(judge, chosen), "mutants", total=len(chosen), console=console)
            verdicts = list(found)
    return _report(console, verdicts, len(every), seed)


def reason_of(mutant: str) -> str:
    """Why a mutant can't be noticed; empty where nothing explains it."""
    return next((why for form, why in explained().items() if fnmatchcase(mutant, form)), "")


@cache
def explained() -> dict[str, str]:
    """Read why some mutants can't be noticed, by their names with `*` for any text."""
    entries = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["explained"]
    return {form: entry["reason"] for entry in entries for form in entry["mutants"]}


def _report(console: Console, verdicts: Sequence[ProxiedVerdict], every: int, seed: int) -> int:
    by_endpoint: dict[str, list[ProxiedVerdict]] = defaultdict(list)
    for verdict in verdicts:
        by_endpoint[str(verdict.mutant.endpoint)].append(verdict)
    table = Table("endpoint", "refused", "%", "not refused: fields of requests", "of answers")
    for name, those in sorted(by_endpoint.items()):
        noticed = [verdict for verdict in those if not verdict.reason]
        left = [verdict.mutant for verdict in noticed if not verdict.refused]
        share = _percent(len(noticed) - len(left), len(noticed))
        fields = (
            ", ".join(sorted({mutant.field for mutant in left if mutant.direction == direction}))
            for direction in (SENT, RECEIVED)
        )
        few = f"{len(noticed) - len(left)} of {len(noticed)}"
        table.add_row(name, few, f"{share:.0f}" if noticed else "", *fields)
    console.print(table)
    survivors = [verdict for verdict in verdicts if not verdict.refused]
    unexplained = [str(verdict.mutant) for verdict in survivors if not verdict.reason]
    for name in unexplained:
        console.print(f"not refused: {name}", highlight=False)
    for reason, number in Counter(each.reason for each in survivors if each.reason).items():
        console.print(f"{number} can't be noticed: {reason}", highlight=False)
    stale = _stale(survivors) if len(verdicts) == every else []
    for form in stale:
        console.print(f"{EXPLAINED.name}: no mutant that is not refused is like {form}")
    silent = len(survivors) - len(unexplained)
    refused, tried = len(verdicts) - len(survivors), len(verdicts) - silent
    rate = _percent(refused, tried)
    console.print(
        f"{refused} of {tried} refused, {rate:.1f} % (at least {LEAST_RATE});"
        f" {silent} more can't be noticed; {sum(each.was_run for each in verdicts)} were run, the"
        f" others were seen in recorded answers; drawn from {every} with --seed {seed}",
        highlight=False,
    )
    return 0 if rate >= LEAST_RATE and not stale else 1


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def _stale(survivors: Sequence[ProxiedVerdict]) -> list[str]:
    """Explanations of what is refused, or of nothing."""
    names = [str(verdict.mutant) for verdict in survivors]
    return [form for form in explained() if not any(fnmatchcase(name, form) for name in names)]
