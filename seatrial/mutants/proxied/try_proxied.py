"""`nox -s mutants -- --proxied`: how many faults of a proxy the differential trial refuses."""

from __future__ import annotations

import random
import tomllib
import warnings
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.progress import track
from rich.table import Table

from seatrial.build.table import console as make_console
from seatrial.differential import reference
from seatrial.mutants.proxied import trial
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
    console, router, reasons = make_console(), Router(), explained()
    warnings.simplefilter("ignore")  # what MLflow deprecates is tried as well
    with pytest.MonkeyPatch.context() as patch, reference.running() as server:
        for name, value in _ENVIRONMENT.items():
            patch.setenv(name, value)
        recordings = list(trial.record(server, router, seed))
        every = trial.possible(recordings, router)
        chosen = random.Random(seed).sample(every, min(sample or len(every), len(every)))  # noqa: S311
        judge = partial(trial.judge, server=server, router=router, recordings=recordings)
        with ThreadPoolExecutor(jobs) as pool:
            found = track(pool.map(judge, chosen), "mutants", total=len(chosen), console=console)
            verdicts = list(found)
    return _report(console, verdicts, reasons, len(every), seed)


def explained() -> dict[str, str]:
    """Read why some mutants can't be noticed, by their names with `*` for any text."""
    entries = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["explained"]
    return {form: entry["reason"] for entry in entries for form in entry["mutants"]}


def _report(
    console: Console,
    verdicts: Sequence[ProxiedVerdict],
    reasons: dict[str, str],
    every: int,
    seed: int,
) -> int:
    by_endpoint: dict[str, list[ProxiedVerdict]] = defaultdict(list)
    for verdict in verdicts:
        by_endpoint[str(verdict.mutant.endpoint)].append(verdict)
    table = Table("endpoint", "tried", "refused", "%")
    survivors: dict[str, str] = {}
    for name, those in sorted(by_endpoint.items()):
        refused = sum(bool(verdict.refused) for verdict in those)
        table.add_row(name, str(len(those)), str(refused), f"{100 * refused / len(those):.0f}")
        for verdict in those:
            if not verdict.refused:
                mutant = str(verdict.mutant)
                why = (reason for form, reason in reasons.items() if fnmatchcase(mutant, form))
                survivors[mutant] = next(why, "")
    console.print(table)
    for name, reason in survivors.items():
        console.print(f"not refused: {name}" + (f" ({reason})" if reason else ""), highlight=False)
    silent = sum(bool(reason) for reason in survivors.values())
    refused, tried = len(verdicts) - len(survivors), len(verdicts) - silent
    rate = 100 * refused / tried if tried else 0.0
    console.print(
        f"{refused} of {tried} refused, {rate:.1f} % (at least {LEAST_RATE});"
        f" {silent} more can't be noticed; drawn from {every} with --seed {seed}",
        highlight=False,
    )
    return 0 if rate >= LEAST_RATE else 1
