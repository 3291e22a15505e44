"""Two servers that are compared: one sequence on both, and the first answer that differs."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from seatrial.differential import known
from seatrial.differential.comparison import Difference, difference
from seatrial.differential.execution import Execution
from seatrial.differential.steps import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from seatrial.differential.operations import Operation
    from seatrial.differential.side import Side
    from seatrial.differential.steps import Step

_TOGETHER = 20
"""Steps that each server is given before their answers are compared."""


@dataclass(frozen=True)
class Finding:
    """A sequence after which the two servers answer differently."""

    steps: tuple[Step, ...]
    """What was run."""
    last: Step
    """What was answered differently: the last one of the sequence, or what read it afterwards."""
    difference: Difference
    afterwards: bool
    """Whether the last step is one that reads what the sequence has made."""

    def __str__(self) -> str:
        """The sequence as lines of Python, and the two answers."""
        lines = [str(step) for step in self.steps]
        if self.afterwards:
            lines.append(f"{self.last}   # read afterwards")
        return "\n".join([*(f"    {line}" for line in lines), str(self.difference)])


@dataclass(frozen=True)
class Area:
    """Operations that belong together."""

    name: str
    operations: Mapping[str, Operation]
    """By name: those that sequences are drawn from, and those that read."""
    drawn: Sequence[Operation]
    first: tuple[str, ...]
    """What every generated sequence begins with."""
    reads: Callable[[Iterable[Step]], list[Step]]
    """Makes the steps that read all that a sequence has made."""
    fixed: tuple[Step, ...]
    """A sequence along the boundaries."""


class Pair:
    """The reference and a server under test."""

    def __init__(self, reference: Side, tested: Side, area: Area) -> None:
        """Nothing is run yet."""
        self.reference = reference
        self.tested = tested
        self.area = area
        self.executed = 0
        """How many sequences were run."""

    def compare(self, steps: Sequence[Step], *, reading: bool = True) -> Finding | None:
        """Run a sequence on both servers, read what it has made, and compare all answers.

        Args:
            steps: the sequence.
            reading: whether what it has made is read afterwards.
        """
        finding, _ = self.run(steps, reading=reading)
        return finding

    def run(
        self, steps: Sequence[Step], *, reading: bool = True
    ) -> tuple[Finding | None, tuple[Execution, Execution]]:
        """Do the same, and give back what was made, so that it can be read once more."""
        self.executed += 1
        token = secrets.token_hex(4)
        # The two may be one server, and its names are unique.
        both = (
            Execution(self.reference, World(f"d{token}r-")),
            Execution(self.tested, World(f"d{token}t-")),
        )
        operations = self.area.operations
        with ThreadPoolExecutor(2) as pool:
            for start in range(0, len(steps), _TOGETHER):
                some = steps[start : start + _TOGETHER]
                expected, actual = pool.map(
                    partial(Execution.run, steps=some, operations=operations), both
                )
                if found := self._first(some, expected, actual):
                    number, finding = found
                    until = tuple(steps[: start + number + 1])
                    return Finding(until, until[-1], finding, afterwards=False), both
        return self.read_again(steps, both) if reading else None, both

    def read_again(
        self, steps: Sequence[Step], executions: tuple[Execution, Execution]
    ) -> Finding | None:
        """Read what a sequence has made once more, as after a restart."""
        reads = self.area.reads(steps)
        operations = self.area.operations
        with ThreadPoolExecutor(2) as pool:
            expected, actual = pool.map(
                partial(Execution.run, steps=reads, operations=operations), executions
            )
        if found := self._first(reads, expected, actual):
            number, finding = found
            return Finding(tuple(steps), reads[number], finding, afterwards=True)
        return None

    def _first(
        self, steps: Sequence[Step], expected: list[Any], actual: list[Any]
    ) -> tuple[int, Difference] | None:
        for number, (step, one, other) in enumerate(zip(steps, expected, actual, strict=True)):
            found = difference(one, other)
            if found and not known.reason(self.tested.database, step, one, other):
                return number, found
        return None
