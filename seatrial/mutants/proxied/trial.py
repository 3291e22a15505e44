"""The differential trial on a server behind a proxy: which mutants it refuses.

What changes answers alone is applied to the recorded answers of an unbroken server. What changes a
request, or what no recorded answer shows, is run.
"""

from __future__ import annotations

import copy
import secrets
import threading
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from seatrial.differential import areas, search
from seatrial.differential.comparison import Normaliser, difference
from seatrial.differential.execution import Execution
from seatrial.differential.side import Side
from seatrial.differential.steps import World
from seatrial.mutants.proxied.faults import ProxiedFault, mutants
from seatrial.mutants.proxied.proxy import Fault, faulty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from seatrial.differential.pair import Area
    from seatrial.differential.server_times import Key
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


@dataclass
class Recorded:
    """An exchange with an unbroken server, as the comparison sees its answer."""

    endpoint: Endpoint
    exchange: Exchange
    times: dict[Key, float]
    """That the server has sent before."""
    compared: Any


class Recorder(Fault):
    """Changes nothing, and keeps all exchanges, in their order and by endpoint."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.all: list[tuple[Endpoint, Exchange]] = []
        self.exchanges: dict[Endpoint, list[Exchange]] = defaultdict(list)

    def after(self, exchange: Exchange) -> None:
        """Keep an exchange."""
        if found := self._router.find(exchange.method, unquote(exchange.path)):
            self.all.append((found[0], exchange))
            self.exchanges[found[0]].append(exchange)


@dataclass
class Run:
    """Steps, and what an unbroken server answered."""

    steps: list[Step]
    answers: list[Any]


@dataclass
class Recording:
    """A sequence, and everything that an unbroken server answered."""

    area: Area
    whole: Run
    """With the steps that read what the sequence has made."""
    used: list[set[Endpoint]]
    """By each of the steps."""
    exchanges: dict[Endpoint, list[Exchange]]
    replayed: list[Recorded]
    normaliser: Normaliser
    _shorter: dict[Endpoint, Run] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def runs(self, endpoint: Endpoint, server: str) -> Iterator[Run]:
        """The runs that show a fault of an endpoint, the shorter one first.

        Args:
            endpoint: that is broken.
            server: on which the shorter one is run without a fault, once.
        """
        kept = self._kept(endpoint)
        if len(kept) == len(self.whole.steps):
            yield self.whole
            return
        with self._lock:
            if endpoint not in self._shorter:
                with faulty(server, Fault()) as address:
                    answers = _answered(execution(address), kept, self.area)
                self._shorter[endpoint] = Run(kept, answers)
        yield self._shorter[endpoint]
        if self._writes(endpoint):
            yield self.whole

    def _kept(self, endpoint: Endpoint) -> list[Step]:
        """All steps but those that read by other endpoints, as long as the sequence runs."""
        end = len(self.whole.steps) - len(self.area.reads(self.whole.steps))
        return [
            step
            for number, (step, used) in enumerate(zip(self.whole.steps, self.used, strict=True))
            if endpoint in used
            or not self._reads(step)
            or (number >= end and self._writes(endpoint))
        ]

    def _reads(self, step: Step) -> bool:
        return self.area.operations[step.operation].reads

    def _writes(self, endpoint: Endpoint) -> bool:
        return any(
            endpoint in used and not self._reads(step)
            for step, used in zip(self.whole.steps, self.used, strict=True)
        )


@dataclass
class ProxiedVerdict:
    """What became of one mutant."""

    mutant: ProxiedMutant
    refused: str = ""
    """What was different, and after which step."""
    reason: str = ""
    """Why it can't be noticed."""
    was_run: bool = False
    """True if the recorded answers did not say it."""


def record(server: str, router: Router, seed: int) -> Iterator[Recording]:
    """Run the sequences on a server without a fault.

    Args:
        server: its address; it keeps its data in SQLite.
        router: finds the endpoint of a request.
        seed: the same one gives the same generated sequences.
    """
    for area in AREAS:
        for sequence in (area.fixed, *search.drawn(area, GENERATED, _STEPS, seed)):
            yield recorded(server, router, area, [*sequence, *area.reads(sequence)])


def recorded(server: str, router: Router, area: Area, steps: list[Step]) -> Recording:
    """Run one sequence on a server without a fault.

    Args:
        server: its address.
        router: finds the endpoint of a request.
        area: whose operations the steps are of.
        steps: with those that read what the sequence has made.
    """
    recorder = Recorder(router)
    with faulty(server, recorder) as address:
        unbroken = execution(address)
        answers = _answered(unbroken, steps, area)
    used = [
        {found[0] for each in noted if (found := router.find(each.method, unquote(each.path)))}
        for noted in unbroken.noted
    ]
    normaliser = Normaliser(unbroken.world, address)
    times: dict[Key, float] = {}
    replayed = []
    for endpoint, exchange in recorder.all:
        before = dict(times)
        compared = normaliser.http(_data(exchange), times)
        replayed.append(Recorded(endpoint, exchange, before, compared))
    run = Run(steps, answers)
    return Recording(area, run, used, recorder.exchanges, replayed, normaliser)


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
    mutant: ProxiedMutant,
    *,
    server: str,
    router: Router,
    recordings: Sequence[Recording],
    explained: Callable[[str], str] = lambda _: "",
) -> ProxiedVerdict:
    """Compare answers with and without a fault, until one is different.

    Args:
        mutant: the fault.
        server: that it stands before.
        router: finds the endpoint of a request.
        recordings: of the server without a fault.
        explained: says why a mutant can't be noticed, by its name: it is not run.
    """
    if mutant.changes_answers_alone:
        for recording in recordings:
            if refused := _replayed(mutant, recording, router):
                return ProxiedVerdict(mutant, refused)
    if reason := explained(str(mutant)):
        return ProxiedVerdict(mutant, reason=reason)
    for recording in recordings:
        if _applies(mutant, recording, router):
            for run in recording.runs(mutant.endpoint, server):
                with faulty(server, ProxiedFault(mutant, router)) as address:
                    if refused := _refusal(address, run, recording.area):
                        return ProxiedVerdict(mutant, refused, was_run=True)
    return ProxiedVerdict(mutant, was_run=True)


def _applies(mutant: ProxiedMutant, recording: Recording, router: Router) -> bool:
    exchanges = recording.exchanges.get(mutant.endpoint, ())
    return ProxiedFault(mutant, router).changes(exchanges)


def _replayed(mutant: ProxiedMutant, recording: Recording, router: Router) -> str:
    """Say what is different in recorded answers; empty where nothing is."""
    if mutant.endpoint not in recording.exchanges:
        return ""
    # A time that is changed may show only where the server tells the right one afterwards.
    return next(_changed(mutant, recording, router), "") or next(
        _changed(mutant, recording, router, afterwards=True), ""
    )


def _changed(
    mutant: ProxiedMutant, recording: Recording, router: Router, *, afterwards: bool = False
) -> Iterator[str]:
    fault = ProxiedFault(mutant, router)
    times: dict[Key, float] = {}
    for each in recording.replayed:
        exchange, fault.applied = each.exchange, False
        if each.endpoint == mutant.endpoint:
            exchange = replace(exchange, answer=copy.deepcopy(exchange.answer))
            fault.after(exchange)
        if fault.applied or afterwards:
            seen = times if afterwards else dict(each.times)
            actual = recording.normaliser.http(_data(exchange), seen)
            if found := difference(each.compared, actual):
                yield f"{found.path} of {each.endpoint}"


def _data(exchange: Exchange) -> dict[str, Any]:
    return {"status": exchange.status, "body": exchange.answer}


def _answered(execution: Execution, steps: Sequence[Step], area: Area) -> list[Any]:
    answers: list[Any] = []
    for start in range(0, len(steps), _TOGETHER):
        answers += execution.run(steps[start : start + _TOGETHER], area.operations)
    return answers


def _refusal(address: str, run: Run, area: Area) -> str:
    """Say what was different behind a proxy; empty where nothing was."""
    behind = execution(address)
    for start in range(0, len(run.steps), _TOGETHER):
        some = run.steps[start : start + _TOGETHER]
        try:
            answers = behind.run(some, area.operations)
        # The client may stumble over a wrong answer in any way.
        except Exception as error:  # noqa: BLE001
            return f"{type(error).__name__} in the client"
        expected = run.answers[start : start + _TOGETHER]
        for step, one, other in zip(some, expected, answers, strict=True):
            if found := difference(one, other):
                return f"{found.path or 'the answer'} of {step.operation}"
    return ""


def execution(address: str) -> Execution:
    """A sequence that is about to run on a server, with names of its own."""
    return Execution(
        Side(address, database="sqlite", as_sent=True), World(f"m{secrets.token_hex(4)}-")
    )
