"""The search for the shortest sequence that two servers answer differently."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir, storage_directory

from seatrial.differential.operations import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy

    from seatrial.differential.pair import Area, Finding, Pair
    from seatrial.differential.steps import Step


@dataclass(frozen=True)
class Effort:
    """How long a search takes."""

    examples: int
    """The most sequences."""
    steps: int
    """The most steps of one."""
    seconds: float
    """After so many, no other sequence is begun."""
    shrinking: float = 60
    """Seconds for making a sequence shorter that was answered differently."""


EFFORTS = {
    "quick": Effort(examples=60, steps=14, seconds=10),
    "normal": Effort(examples=400, steps=20, seconds=120),
    "deep": Effort(examples=4000, steps=30, seconds=1200),
}


@st.composite
def sequences(draw: DrawFn, area: Area, most: int) -> tuple[Step, ...]:
    """Draw a sequence; what a step refers to was made by an earlier one."""
    scope, steps = Scope(), []

    def add(step: Step) -> None:
        steps.append(step)
        if step.makes:
            scope.add(step.makes)

    for name in area.first:
        add(draw(area.operations[name].steps(scope)))
    for _ in range(draw(st.integers(most // 2, most))):
        possible = [
            operation
            for operation in area.drawn
            if operation.is_possible(scope)
            for _ in range(operation.weight)
        ]
        add(draw(st.sampled_from(possible).flatmap(lambda chosen: chosen.steps(scope))))
    return tuple(steps)


def drawn(area: Area, number: int, most: int, seed: int) -> list[tuple[Step, ...]]:
    """Draw sequences, the same ones for the same seed.

    Args:
        area: whose operations they are of.
        number: of sequences.
        most: steps of one.
        seed: of hypothesis.
    """
    found: list[tuple[Step, ...]] = []
    _for_each(sequences(area, most), number, seed, found.append)
    return found


def _for_each(
    strategy: SearchStrategy[tuple[Step, ...]],
    number: int,
    seed: int,
    take: Callable[[tuple[Step, ...]], None],
) -> None:
    """Draw sequences, and do nothing else of what hypothesis does with an example."""

    @hypothesis.seed(seed)
    @settings(
        max_examples=number,
        phases=(Phase.generate,),
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(strategy)
    def each(steps: tuple[Step, ...]) -> None:
        take(steps)

    with _storage_elsewhere():
        each()


@contextmanager
def _storage_elsewhere() -> Iterator[None]:
    """Keep `.hypothesis` out of the working folder, which may be anybody's.

    Without a database hypothesis still writes there what it knows of Unicode and of the code.
    """
    before = storage_directory(intent_to_write=False).home_directory
    with TemporaryDirectory(prefix="seatrial-") as folder:
        set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            set_hypothesis_home_dir(before)


class _FoundError(Exception):
    """A sequence was answered differently: no other one is drawn."""


class _TimeOverError(Exception):
    """No other sequence is begun."""


class _Trials:
    """Runs each sequence once, and none any more when the time is over."""

    def __init__(self, pair: Pair, effort: Effort, *, endless: bool = False) -> None:
        self._pair = pair
        self._end = math.inf if endless else time.monotonic() + effort.seconds
        self._shrinking = effort.shrinking
        self._known: dict[str, Finding | None] = {}
        self.shortest: Finding | None = None

    @property
    def are_over(self) -> bool:
        return time.monotonic() > self._end

    def __call__(self, steps: Sequence[Step]) -> Finding | None:
        key = "\n".join(map(str, steps))
        if key in self._known or self.are_over:
            return self._known.get(key)
        best = self.shortest
        finding = self._pair.compare(steps, reading=not best or best.afterwards)
        self._known[key] = finding
        if finding and not best:
            self._end = time.monotonic() + self._shrinking
        if finding and (not best or _size(finding) < _size(best)):
            self.shortest = finding
        return finding


def _size(finding: Finding) -> tuple[int, int]:
    return len(finding.steps), len("".join(map(str, finding.steps)))


def find(pair: Pair, effort: Effort, seed: int) -> Finding | None:
    """Search for a sequence that is answered differently.

    Args:
        pair: the two servers.
        effort: when to stop.
        seed: the same one gives the same sequences.

    Returns:
        the shortest one found.
    """
    trials = _Trials(pair, effort)

    def take(steps: tuple[Step, ...]) -> None:
        if trials(steps):
            raise _FoundError
        if trials.are_over:
            raise _TimeOverError

    # What is found is made shorter below: each attempt costs a second, and hypothesis makes
    # hundreds of them.
    with suppress(_FoundError, _TimeOverError):
        _for_each(sequences(pair.area, effort.steps), effort.examples, seed, take)
    return _shortened(trials)


def check(pair: Pair, steps: Sequence[Step], effort: Effort) -> Finding | None:
    """Compare one given sequence; one that is answered differently is made shorter.

    Returns:
        the shortest sequence of its kind.
    """
    trials = _Trials(pair, effort, endless=True)
    if found := trials(steps):
        reading = {name for name, each in pair.area.operations.items() if each.reads}
        *before, last = found.steps
        trials([*(step for step in before if step.operation not in reading), last])
    return _shortened(trials)


def _shortened(trials: _Trials) -> Finding | None:
    """Leave out what is not needed for the difference: many steps, single ones, arguments."""
    found = trials.shortest
    size = len(found.steps) // 2 if found else 0
    while found and size:
        number = 0
        while number < len(found.steps):
            steps = (*found.steps[:number], *found.steps[number + size :])
            if steps and trials(steps):
                found = trials.shortest or found
            else:
                number += size
        size //= 2
    number = 0
    while found and number < len(found.steps):
        for simpler in found.steps[number].simpler():
            if trials((*found.steps[:number], simpler, *found.steps[number + 1 :])):
                found = trials.shortest or found
                break
        else:
            number += 1
    return found
