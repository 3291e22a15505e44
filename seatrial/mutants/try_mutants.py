"""`nox -s mutants`: build images that break a promise, and see that the trial refuses each."""

from __future__ import annotations

import argparse
import re
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from seatrial import catalogue
from seatrial.console import make_console
from seatrial.engine.connection import endpoint
from seatrial.errors import UserError
from seatrial.mutants import building, coverage, loader, overlay
from seatrial.mutants.proxied import try_proxied as proxied
from seatrial.mutants.trial_process import LOGS, TrialRunner
from seatrial.mutants.verdict import Verdict, judge, untried
from seatrial.project import current
from seatrial.trial.run_pytest import PARALLEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from seatrial.catalogue import Image
    from seatrial.mutants.mutant import Mutant
    from seatrial.mutants.verdict import TrialRun

ALONE = ("-n", "0")
MOST_JOBS = 2
"""Each is a server with its clients and its databases, on one machine."""


@dataclass(frozen=True)
class _TrialSettings:
    """Settings by which mutants are tried."""

    whole: bool
    """True if every promise of their contract is tried."""
    overlays: Path
    """Holds the changed modules of those that are tried on the unbroken image."""

    def overlay(self, mutant: Mutant) -> Path | None:
        """The folder of changed modules; None where the mutant is an image of its own."""
        folder = self.overlays / mutant.name
        return folder if folder.is_dir() else None


def run(arguments: Sequence[str]) -> int:
    """Try each mutant; show what refused it.

    Args:
        arguments: of the command line, without the program.

    Returns:
        0 where each was refused for its promise, else 1.

    Raises:
        UserError: a promise has no mutant, an option is wrong, or a build failed.
        KeyboardInterrupt: everything that was started has ended.
    """
    asked = _read(arguments)
    if not 1 <= asked.jobs <= MOST_JOBS:
        raise UserError(f"--jobs {asked.jobs}: it takes 1 to {MOST_JOBS}")
    if asked.proxied:
        if asked.name:
            raise UserError("--proxied takes no names: --sample and --seed choose from its mutants")
        return proxied.run(asked.sample, asked.seed, asked.jobs)
    mutants = loader.load()
    chosen = _share(loader.select(mutants, asked.name), asked.shard)
    console = make_console()
    if asked.list:
        console.print(_list_of(chosen))
        return 0
    variants = catalogue.load().variants
    coverage.require_whole(
        mutants.values(), {name: image.contract for name, image in variants.items()}
    )
    concerned = {mutant.variant: variants[mutant.variant] for mutant in chosen}
    building.require(chosen, variants)
    with TemporaryDirectory(prefix="seatrial-mutants-") as folder:
        settings = _TrialSettings(asked.whole, Path(folder))
        # Another machine's engine can't mount what is here; and tests of what is in an image see
        # nothing that is mounted, so that the whole trial needs the image itself.
        if asked.whole or asked.build or not endpoint().socket:
            building.build(chosen, variants, console)
        else:
            overlay.write_all(chosen, variants, settings.overlays)
            if alone := [mutant for mutant in chosen if mutant.recipe]:
                building.build(alone, variants, console)
        verdicts = _try(chosen, concerned, console, settings, jobs=asked.jobs)
    console.print(_table_of(verdicts))
    left = [verdict.mutant.name for verdict in verdicts if not verdict.by]
    if left:
        console.print(
            f"{len(left)} of {len(verdicts)} not refused for their promise: {', '.join(left)};"
            f" what was run stands in {current().shown(LOGS)}/",
            highlight=False,
        )
        return 1
    console.print(f"all {len(verdicts)} refused, each for its promise", highlight=False)
    return 0


def _read(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s mutants --", description=__doc__)
    parser.add_argument("name", nargs="*", help="of a mutant; none for all of them")
    parser.add_argument("--list", action="store_true", help="only show them")
    parser.add_argument(
        "--whole",
        action="store_true",
        help="run the whole trial on each, and require that it names no other promise",
    )
    parser.add_argument(
        "--build",
        action="store_true",
        help="build an image of each, also where a changed module could be mounted",
    )
    parser.add_argument(
        "--proxied",
        action="store_true",
        help="try faults of a proxy on the differential trial, without images",
    )
    parser.add_argument("--sample", type=int, help="of --proxied: how many are tried; all without")
    parser.add_argument("--seed", type=int, default=1, help="of --proxied: which ones")
    parser.add_argument(
        "--shard", default="1/1", metavar="I/N", help="the I-th of N shares, for several machines"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many are tried at a time")
    return parser.parse_args(arguments)


def _share(mutants: Sequence[Mutant], shard: str) -> Sequence[Mutant]:
    """Every N-th mutant, from the I-th on: neighbours in the list take about the same time."""
    match = re.fullmatch(r"([1-9]\d{0,3})/([1-9]\d{0,3})", shard, re.ASCII)
    if match is None or int(match[1]) > int(match[2]):
        raise UserError(f"--shard {shard}: write I/N, such as 1/4 for the first of four shares")
    return mutants[int(match[1]) - 1 :: int(match[2])]


def _try(
    mutants: Sequence[Mutant],
    variants: Mapping[str, Image],
    console: Console,
    settings: _TrialSettings,
    *,
    jobs: int,
) -> list[Verdict]:
    runner = TrialRunner()
    verdicts: dict[str, Verdict] = {}
    with ThreadPoolExecutor(jobs) as pool, runner.interruptible():
        unbroken = {
            name: _run_unbroken(runner, image, mutants, console, whole=settings.whole)
            for name, image in variants.items()
        }
        tried = {
            pool.submit(_run_mutant, runner, mutant, variants[mutant.variant], settings): mutant
            for mutant in mutants
        }
        for future in as_completed(tried):
            mutant = tried[future]
            verdict = _judge(mutant, future.result(), unbroken[mutant.variant])
            verdicts[mutant.name] = verdict
            console.print(
                f"{_word(verdict)}  {verdict.seconds:4.0f}s  {mutant.name}: {mutant.promise}",
                highlight=False,
                markup=False,
            )
    return [verdicts[mutant.name] for mutant in mutants]


def _run_unbroken(
    runner: TrialRunner, image: Image, mutants: Iterable[Mutant], console: Console, *, whole: bool
) -> TrialRun:
    """Try the promises that the mutants of an image break on the image itself."""
    promises = dict.fromkeys(mutant.promise for mutant in mutants if mutant.variant == image.name)
    with console.status(f"trying {image.reference}, unbroken"):
        found = runner.run(
            image.name,
            [
                *PARALLEL,
                *("--variant", image.name),
                *(
                    []
                    if whole
                    else [word for promise in promises for word in ("--promise", str(promise))]
                ),
            ],
        )
    console.print(
        f"{image.reference}, unbroken: {len(found.outcomes)} tests, {len(found.failed)} failed,"
        f" {found.seconds:.0f} s",
        highlight=False,
    )
    return found


def _run_mutant(
    runner: TrialRunner, mutant: Mutant, image: Image, settings: _TrialSettings
) -> TrialRun:
    if folder := settings.overlay(mutant):
        words = ["--image", image.reference, "--overlay", str(folder)]
    else:
        words = ["--image", mutant.reference(image)]
    words += ["--contract", str(image.contract)]
    if settings.whole:
        return runner.run(mutant.name, [*PARALLEL, *words])
    # One failure is enough.
    words += ["--promise", str(mutant.promise), "--exitfirst"]
    if not mutant.promise.declaration.uses_services:
        words += ["--stack", "embedded"]
    return runner.run(mutant.name, [*ALONE, *words])


def _judge(mutant: Mutant, run: TrialRun, unbroken: TrialRun) -> Verdict:
    """A mutant is refused for what its image, unbroken, is not refused for."""
    as_well = [outcome for outcome in unbroken.failed if mutant.promise in outcome.promises]
    if as_well:
        why_not = f"the unbroken image fails as well: {as_well[0].test}: {as_well[0].failure}"
    elif untried([mutant.promise], unbroken):
        tried = (outcome for outcome in unbroken.outcomes if mutant.promise in outcome.promises)
        reason = next((outcome.skipped for outcome in tried if outcome.skipped), unbroken.last_line)
        why_not = f"the unbroken image was not tried: {reason}"
    else:
        return judge(mutant, run)
    return Verdict(mutant, run.seconds, why_not=why_not)


def _word(verdict: Verdict) -> str:
    return "refused    " if verdict.by else "NOT REFUSED"


def _list_of(mutants: Iterable[Mutant]) -> Table:
    table = Table(title="the mutants", title_justify="left")
    for column in ("mutant", "of", "breaks"):
        table.add_column(column, no_wrap=True)
    table.add_column("why", overflow="fold")
    for mutant in mutants:
        table.add_row(*map(Text, (mutant.name, mutant.variant, str(mutant.promise), mutant.why)))
    return table


def _table_of(verdicts: Iterable[Verdict]) -> Table:
    table = Table(title="what refused them", title_justify="left")
    for column in ("mutant", "promise"):
        table.add_column(column, no_wrap=True)
    table.add_column("refused by", overflow="fold")
    table.add_column("s", justify="right", no_wrap=True)
    for verdict in verdicts:
        by = verdict.by
        table.add_row(
            verdict.mutant.name,
            Text(str(verdict.mutant.promise)),
            Text(f"{by.test}: {by.failure}" if by else f"NOTHING: {verdict.why_not}"),
            f"{verdict.seconds:.0f}",
        )
    return table
