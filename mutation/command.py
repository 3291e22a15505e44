"""Try mutants of the packages that ship in images, and show which survive."""

from __future__ import annotations

import argparse
import queue
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.progress import Progress
from rich.table import Table

from mutation import changes, declared
from mutation.trying import Copy, Verdict
from seatrial.console import make_console
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mutation.changes import Mutant, Spot
    from mutation.trying import Tests

_AT_A_TIME = 2
_ROOT = Path(__file__).parents[1]


class Module(NamedTuple):
    """A module that is mutated."""

    package: str
    name: str
    path: Path
    """Inside the package's folder."""
    source: str
    tests: Tests

    def mutant(self, spot: Spot) -> Mutant | None:
        """Change it in one place."""
        return changes.mutated(self.name, self.path, self.source, spot)


@dataclass
class Tally:
    """What became of mutants."""

    killed: int = 0
    survived: int = 0
    timeouts: int = 0
    equivalent: int = 0

    @property
    def mutants(self) -> int:
        """All but those that no test can kill."""
        return self.killed + self.survived + self.timeouts

    @property
    def score(self) -> float:
        """How many of them the tests know, in per cent."""
        return 100 * (self.killed + self.timeouts) / self.mutants if self.mutants else 100.0

    def count(self, verdict: Verdict, *, explained: bool) -> None:
        """Count a mutant in."""
        match verdict:
            case Verdict.KILLED:
                self.killed += 1
            case Verdict.TIMEOUT:
                self.timeouts += 1
            case _ if explained:
                self.equivalent += 1
            case _:
                self.survived += 1


@dataclass
class Result:
    """What a run has found."""

    tallies: dict[str, dict[str, Tally]] = field(default_factory=dict)
    """By package, and by module."""
    survivors: list[Mutant] = field(default_factory=list)


def run(words: Sequence[str]) -> int:
    """Try the mutants that the words of a command line choose.

    Returns:
        the exit code: 1 where a score is below the noted one, or an explanation explains nothing.

    Raises:
        UserError: something is declared wrongly, or tests fail without a mutant.
    """
    packages = declared.packages(_ROOT)
    asked = _read(words, sorted(packages))
    modules = [
        module
        for name in asked.package or packages
        for module in _modules(name, packages[name])
        if not asked.module or module.name.rpartition(".")[2] in asked.module
    ]
    if not modules:
        raise UserError(f"no module is called {', '.join(asked.module)}")
    chosen = _chosen(modules, asked.sample, asked.seed)
    known = declared.explanations(_ROOT)
    console = make_console()
    result, tried = Result(), [mutant for _, mutant in chosen]
    unexplained: list[Mutant] = []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("mutants", total=len(chosen))
        for module, mutant, verdict in _tried(chosen, lambda: progress.advance(bar)):
            explained = any(each.fits(mutant) for each in known)
            tallies = result.tallies.setdefault(module.package, {})
            tallies.setdefault(module.name, Tally()).count(verdict, explained=explained)
            if verdict is Verdict.SURVIVED:
                result.survivors.append(mutant)
                if not explained:
                    unexplained.append(mutant)
    for mutant in unexplained:
        console.print(mutant.diff, markup=False, highlight=False, soft_wrap=True)
    console.print(_table(result))
    whole = set() if asked.sample else {module.name for module in modules}
    idle = declared.idle(known, result.survivors, tried, whole=whole)
    for each in idle:
        console.print(f"{declared.EQUIVALENT}: no survivor of {each.module} is {each.change}")
    low = [
        f"{name}: {tally.score:.1f} % is below the {noted} % that pyproject.toml notes"
        for package, tallies in result.tallies.items()
        for name, tally in tallies.items()
        if (noted := packages[package].scores.get(name.rpartition(".")[2])) is not None
        and is_low(tally, noted, whole=name in whole)
    ]
    for line in low:
        console.print(line, soft_wrap=True)
    return 1 if idle or low else 0


def is_low(tally: Tally, noted: float, *, whole: bool) -> bool:
    """Tell whether a module has become worse; a sample tells it only where all were killed."""
    return (whole or noted == 100) and round(tally.score, 1) < noted


def _read(words: Sequence[str], packages: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s mutation --", description=__doc__)
    parser.add_argument("--package", action="append", choices=packages, help="this one alone")
    parser.add_argument("--module", action="append", default=[], help="such as refusals")
    parser.add_argument("--sample", type=int, help="so many mutants, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    return parser.parse_args(words)


def _modules(package: str, described: declared.Package) -> Iterator[Module]:
    folder = _ROOT / "packages" / package
    for path in sorted(folder.glob("mlflow_*/*.py")):
        source = path.read_text(encoding="utf-8")
        if path.stem == "__init__":
            continue
        tests = described.tests_of(package, path.stem)
        name = f"{path.parent.name}.{path.stem}"
        yield Module(package, name, path.relative_to(folder), source, tests)


def _chosen(modules: list[Module], sample: int | None, seed: int) -> list[tuple[Module, Mutant]]:
    """The mutants to try; those of a sample are as many for each module as it has places."""
    places = [(module, spot) for module in modules for spot in changes.spots(module.source)]
    if sample:
        random.Random(seed).shuffle(places)  # noqa: S311 - no secret
    chosen: dict[tuple[str, str], tuple[Module, Mutant]] = {}
    for module, spot in places:
        # Two operators may make the same of a line.
        if mutant := module.mutant(spot):
            chosen.setdefault((module.name, mutant.code), (module, mutant))
        if sample and len(chosen) == sample:
            break
    return sorted(chosen.values(), key=lambda pair: pair[0].name)


def _tried(
    chosen: list[tuple[Module, Mutant]], done: Callable[[], None]
) -> list[tuple[Module, Mutant, Verdict]]:
    """Try mutants, in as many copies of the packages as there are processes."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as place:
        copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for number in range(_AT_A_TIME):
            copies.put(Copy(_ROOT, Path(place, str(number))))

        def one(pair: tuple[Module, Mutant]) -> tuple[Module, Mutant, Verdict]:
            module, mutant = pair
            copy = copies.get()
            try:
                verdict = copy.try_mutant(mutant, module.tests, seconds[module.tests])
            finally:
                copies.put(copy)
            done()
            return module, mutant, verdict

        def time(tests: Tests) -> tuple[Tests, float]:
            copy = copies.get()
            try:
                return tests, copy.seconds(tests)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            seconds = dict(pool.map(time, {module.tests for module, _ in chosen}))
            return list(pool.map(one, chosen))


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for each in tallies:
        total.killed += each.killed
        total.survived += each.survived
        total.timeouts += each.timeouts
        total.equivalent += each.equivalent
    return total


def _table(result: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("module", no_wrap=True)
    for title in ("mutants", "killed", "survived", "timeouts", "equivalent", "score"):
        table.add_column(title, justify="right")
    for package, tallies in result.tallies.items():
        for name, tally in (*tallies.items(), (package, _sum(tallies.values()))):
            counts = (tally.mutants, tally.killed, tally.survived, tally.timeouts)
            cells = map(str, (*counts, tally.equivalent))
            table.add_row(
                name.rpartition(".")[2], *cells, f"{tally.score:.1f} %", end_section=name == package
            )
    return table
