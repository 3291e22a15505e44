"""The differential trial on a server behind a proxy: which mutants it refuses."""

from __future__ import annotations

import secrets
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from seatrial.differential import areas, search
from seatrial.differential.comparison import difference
from seatrial.differential.side import Execution, Side
from seatrial.differential.steps import World
from seatrial.mutants.proxied.faults import ProxiedFault, mutants
from seatrial.mutants.proxied.proxy import Fault, faulty

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from seatrial.differential.pair import Area
    from seatrial.differential.steps import Step
    from seatrial.mutants.proxied.faults import ProxiedMutant
    from seatrial.mutants.proxied.proxy import Exchange
    from seatrial.trial.endpoints import Endpoint, Router

AREAS = (areas.TRACKING, areas.REGISTRY, areas.TRACING)
GENERATED = 3
"""Generated sequences for each area, beside the fixed one."""
_STEPS = 14
_TOGETHER = 10
"""Steps that are run before their answers are compared."""


class Recorder(Fault):
    """Changes nothing, and keeps all exchanges, by endpoint."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.exchanges: dict[Endpoint, list[Exchange]] = defaultdict(list)

    def after(self, exchange: Exchange) -> None:
        """Keep an exchange."""
        if found := self._router.find(exchange.method, unquote(exchange.path)):
            self.exchanges[found[0]].append(exchange)


@dataclass
class Recording:
    """A sequence, and what the server answered without a fault."""

    area: Area
    steps: list[Step]
    """With those that read what the sequence has made."""
    answers: list[Any]
    exchanges: Mapping[Endpoint, list[Exchange]]
    """With the server, by endpoint."""


@dataclass
class ProxiedVerdict:
    """What became of one mutant."""

    mutant: ProxiedMutant
    refused: str = ""
    """What was different, and after which step."""


def record(server: str, router: Router, seed: int) -> Iterator[Recording]:
    """Run the sequences on a server without a fault.

    Args:
        server: its address; it keeps its data in SQLite.
        router: finds the endpoint of a request.
        seed: the same one gives the same generated sequences.
    """
    for area in AREAS:
        for sequence in (area.fixed, *search.drawn(area, GENERATED, _STEPS, seed)):
            steps = [*sequence, *area.reads(sequence)]
            recorder = Recorder(router)
            with faulty(server, recorder) as address:
                answers = execution(address).run(steps, area.operations)
            yield Recording(area, steps, answers, recorder.exchanges)


def possible(recordings: Iterable[Recording], router: Router) -> list[ProxiedMutant]:
    """All faults that would change something in what was recorded, in one order."""
    found = {}
    for recording in recordings:
        for mutant in mutants(recording.exchanges):
            name = str(mutant)
            if name not in found and _applies(mutant, recording, router):
                found[name] = mutant
    return [found[name] for name in sorted(found)]


def judge(
    mutant: ProxiedMutant, *, server: str, router: Router, recordings: Iterable[Recording]
) -> ProxiedVerdict:
    """Run the sequences in which a mutant changes something, until an answer is different."""
    for recording in recordings:
        if _applies(mutant, recording, router):
            with faulty(server, ProxiedFault(mutant, router)) as address:
                if refused := _refusal(address, recording):
                    return ProxiedVerdict(mutant, refused)
    return ProxiedVerdict(mutant)


def _applies(mutant: ProxiedMutant, recording: Recording, router: Router) -> bool:
    exchanges = recording.exchanges.get(mutant.endpoint, ())
    return ProxiedFault(mutant, router).changes(exchanges)


def _refusal(address: str, recording: Recording) -> str:
    """Say what was different behind a proxy; empty where nothing was."""
    behind, operations = execution(address), recording.area.operations
    for start in range(0, len(recording.steps), _TOGETHER):
        some = recording.steps[start : start + _TOGETHER]
        try:
            answers = behind.run(some, operations)
        # The client may stumble over a wrong answer in any way.
        except Exception as error:  # noqa: BLE001
            return f"{type(error).__name__} in the client"
        expected = recording.answers[start : start + _TOGETHER]
        for step, one, other in zip(some, expected, answers, strict=True):
            if found := difference(one, other):
                return f"{found.path or 'the answer'} of {step.operation}"
    return ""


def execution(address: str) -> Execution:
    """A sequence that is about to run on a server, with names of its own."""
    return Execution(Side(address, database="sqlite"), World(f"m{secrets.token_hex(4)}-"))
