"""What a model's image of `invoke model` costs, against MLflow's own of the same model.

That is what `mlflow models build-docker` makes. Both are built here, from one model, and run under
the same limits, one server at a time and in turn; the median over the rounds counts. MLflow's own
is measured with one worker and with two, and in each figure the better one is the baseline. Ours
has two, which is what it would choose itself under these limits.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, defaultdict
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import requests

from bench import faults, floor, load, models, script, size
from bench.contestant import Contestant, Running
from bench.figures import SECONDS, Bar, Figure, Meaning, medians, middle
from bench.load import Call
from bench.models import PLATFORM, TRAINER, Builds
from seatrial import catalogue, scratch
from seatrial.build import table
from seatrial.contract import load as load_contract
from seatrial.engine import connection
from seatrial.errors import UserError
from seatrial.model import stock
from seatrial.stack.ownership import Session, remove_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from docker import DockerClient

    from bench.load import Outcome
    from bench.measuring import Stopwatch
    from bench.running import Runner

PARTS = ("build", "size", "serving", "faults", "floor", "settings")
REPEAT = 3

OWN, STOCK = "own", "stock"
WORKERS = (1, 2)
CHOSEN = 2
FEW, MANY = 8, 64
"""Connections."""
LOAD_SECONDS = 4.0
WARM, COUNT = 30, 300
BARE = "bare uvicorn echo, one process"
LIMITS: Mapping[str, Any] = {
    "nano_cpus": min(2, os.cpu_count() or 1) * 10**9,
    "mem_limit": "2g",
}
"""Of every container; the client is beside it, on the same processors."""

_PORT = 8080
_WORKERS = "MLFLOW_MODELS_WORKERS"
_QUEUE = "MLFLOW_MODELS_QUEUE"
_REQUESTS = "requests"
_RATE = "1/s"
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "1 worker": {_WORKERS: "1"},
    "1 worker, 1 thread": {_WORKERS: "1", "MLFLOW_MODELS_THREADS": "1"},
    "4 workers": {_WORKERS: "4"},
    "2 workers, 2 threads": {_WORKERS: "2", "MLFLOW_MODELS_THREADS": "2"},
    "2 workers, 1 request at a time": {_WORKERS: "2", "MLFLOW_MODELS_CONCURRENCY": "1"},
    "2 workers, 16 requests at a time": {_WORKERS: "2", "MLFLOW_MODELS_CONCURRENCY": "16"},
}
"""Ways to set our server up. Left alone, it has on two processors two workers with one thread each
for BLAS, or one with two, and each worker answers six requests at a time."""


@dataclass(frozen=True)
class Measured:
    """What one server did, in one round."""

    start: float
    """Seconds to the first 200 on /ping."""
    call: float
    """The median of asking with one row on an open connection, in milliseconds."""
    few: float
    """Answers in a second on `FEW` connections."""
    many: float
    """The same on `MANY`."""
    slow_many: float
    """The 99th percentile on `MANY`, in seconds."""
    errors: float
    """Of both."""
    client_share: float
    """Of one core: what the client took itself, on `MANY`."""
    memory: float
    """PSS in 10^6 bytes, of all processes, after all that."""
    processes: float


@dataclass(frozen=True)
class Suffered:
    """What came of a fault, over all rounds."""

    failed: int = 0
    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """By kind; refused connections are among them."""

    def __add__(self, outcome: Outcome) -> Suffered:
        return Suffered(
            self.failed + outcome.failed,
            self.answered + outcome.answered,
            self.errors + Counter(outcome.errors),
        )

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind}: {count}" for kind, count in sorted(self.errors.items()))
        return f"{self.answered} were answered ({kinds or 'no error at all'})"


def contestant(side: str, workers: int, name: str = "", **variables: str) -> Contestant:
    """A server of the model's first version.

    Args:
        side: `OWN` or `STOCK`.
        workers: how many it has.
        name: as figures call it, where that is not their number.
        variables: of its environment.
    """
    return Contestant(
        f"{side}, {name or counted(workers)}",
        models.reference(side, 1),
        # By default ours has fewer wait than there are connections here.
        environment={_WORKERS: str(workers), _QUEUE: str(MANY), **variables},
        path="/ping",
        port=_PORT,
        limits=LIMITS,
    )


def counted(workers: int) -> str:
    """Say a number of workers."""
    return f"{workers} worker{'s' if workers > 1 else ''}"


def measure(watch: Stopwatch, runner: Runner, parts: Sequence[str], repeat: int) -> list[Figure]:
    """Measure both images.

    Args:
        watch: keeps the samples.
        runner: builds the images.
        parts: of `PARTS`.
        repeat: how many rounds there are.

    Raises:
        UserError: this is no machine for MLflow's own images, something that is needed is not
            there, a build failed, or a server did not start or answered with other numbers.
    """
    if connection.native_platform() != PLATFORM:
        raise UserError(f"MLflow builds images for {PLATFORM} alone: measure on such a machine")
    with staged(watch, runner, versions=1 + repeat) as stage:
        figures: list[Figure] = []
        if "build" in parts:
            figures += stage.building(repeat)
        else:
            stage.build()
        if "size" in parts:
            figures += stage.weighing()
        servers = "serving" in parts or "settings" in parts or "floor" in parts
        found = stage.rounds("serving" in parts, "settings" in parts, repeat) if servers else {}
        if "serving" in parts:
            figures += compare(found)
        if "faults" in parts:
            figures += stage.faults(repeat)
        if "floor" in parts:
            figures += stage.floors(found[contestant(OWN, CHOSEN).name])
        if "settings" in parts:
            figures += compare_settings(found)
    return figures


def compare(found: Mapping[str, Measured]) -> Iterator[Figure]:
    """Set ours against MLflow's own, with the bars.

    Args:
        found: by the names of `contestant`.
    """
    name = contestant(OWN, CHOSEN).name
    own = found[name]
    theirs = {
        contestant(STOCK, count).name: found[contestant(STOCK, count).name] for count in WORKERS
    }

    def share(what: str, unit: str, measure: str, bar: Bar, note: str = "") -> Figure:
        best = max if bar.least_share else min
        against = best(theirs, key=lambda each: getattr(theirs[each], measure))
        baseline = getattr(theirs[against], measure)
        other = ", ".join(
            f"{each} {getattr(theirs[each], measure):.1f} {unit}"
            for each in theirs
            if each != against
        )
        return Figure(
            f"{name}: {what}",
            unit,
            getattr(own, measure),
            against,
            baseline,
            bar,
            f"{other}{'; ' if note else ''}{note}",
            Meaning.SHARE,
        )

    def every(measure: str, how: str) -> str:
        return " and ".join(format(getattr(each, measure), how) for each in theirs.values())

    yield share("one row, p50", "ms", "call", Bar(share=0.6))
    yield share(f"{FEW} connections", _RATE, "few", Bar(least_share=1.5))
    yield share(
        f"{MANY} connections",
        _RATE,
        "many",
        Bar(least_share=1.5),
        f"p99 {own.slow_many:.2f} s ({every('slow_many', '.2f')} s),"
        f" {own.errors:.0f} errors ({every('errors', '.0f')}), the client took"
        f" {own.client_share:.0%} of a core ({every('client_share', '.0%')})",
    )
    yield share("first 200 on /ping", SECONDS, "start", Bar(share=0.5))
    for count in WORKERS:
        one, other = contestant(OWN, count).name, contestant(STOCK, count).name
        yield Figure(
            f"{one}: memory (PSS)",
            size.MEGABYTES,
            found[one].memory,
            other,
            found[other].memory,
            Bar(share=1.0),
            f"{found[one].processes:.0f} processes against {found[other].processes:.0f}",
            Meaning.SHARE,
        )


def compare_settings(found: Mapping[str, Measured]) -> Iterator[Figure]:
    """Set ours against ours set up otherwise."""
    plain = contestant(OWN, CHOSEN).name
    for setting in SETTINGS:
        name = f"{OWN} with {setting}"
        for what, unit, measure in (
            ("one row, p50", "ms", "call"),
            (f"{FEW} connections", _RATE, "few"),
            (f"{MANY} connections", _RATE, "many"),
        ):
            value, baseline = (getattr(found[each], measure) for each in (name, plain))
            yield Figure(f"{name}: {what}", unit, value, plain, baseline, meaning=Meaning.SHARE)


@dataclass(frozen=True)
class Stage:
    """The model, and a network for its servers."""

    watch: Stopwatch
    client: DockerClient
    session: Session
    builds: Builds
    interpreter: str
    """Python, in our image."""

    @property
    def call(self) -> Call:
        """Asks with one row."""
        return Call("/invocations", self.builds.trained.body)

    def build(self) -> None:
        """Build both images, with whatever the cache holds."""
        with self.watch.measure("own: build, whatever is cached"):
            self.builds.own(1)
        with self.watch.measure("stock: build, whatever is cached"):
            self.builds.stock(1)

    def building(self, repeat: int) -> list[Figure]:
        """Build both images with nothing of the environment cached, and then of new versions."""
        with self.watch.measure("own: build, to have its bases and its downloads there"):
            self.builds.own(1, "own-before")
        with self.watch.measure("own: cold build") as detail:
            detail["build"] = cold_alone = self.builds.own_anew(1)
        with self.watch.measure("stock: cold build") as detail:
            detail["steps"] = took = self.builds.stock_anew(1)
        own, theirs = (sample.seconds for sample in self.watch.last(2))
        alone = []
        for version in range(2, 2 + repeat):
            with self.watch.measure("own: build of a new version") as detail:
                detail["build"] = seconds = self.builds.own(version)
            alone.append(seconds)
        rebuilt = middle(self.watch.last(repeat))
        with self.watch.measure("stock: build of a new version"):
            self.builds.stock(2)
        rebuilt_stock = middle(self.watch.last(1))
        weight = sum(
            path.stat().st_size
            for path in self.builds.trained.version(2).rglob("*")
            if path.is_file()
        )
        longest = sorted(took.items(), key=lambda step: -step[1])[:3]
        return [
            Figure(
                f"{OWN}: cold build",
                SECONDS,
                own,
                STOCK,
                theirs,
                Bar(share=0.6),
                f"`invoke model` from start to end, {cold_alone:.1f} s of it the build; uv has its"
                " downloads in a cache, pip in a RUN has none. Of stock's,"
                f" {', '.join(f'{seconds:.0f} s {step[:40]}' for step, seconds in longest)}",
                Meaning.SHARE,
            ),
            Figure(
                f"{OWN}: build of a new version",
                SECONDS,
                rebuilt,
                STOCK,
                rebuilt_stock,
                Bar(value=5.0),
                f"`invoke model` from start to end, {median(alone):.1f} s of it the build; the"
                f" model has {weight / 1e6:.2f} MB",
                Meaning.SHARE,
            ),
        ]

    def weighing(self) -> list[Figure]:
        """Weigh both images."""
        own, theirs = (size.weighed(self.watch, models.reference(side, 1)) for side in (OWN, STOCK))
        base = size.weighed(self.watch, self.builds.base.image)
        kind = "a stand-in" if self.builds.base.stand_in else "the official one"
        return [
            Figure(
                f"{OWN}: uncompressed",
                size.MEGABYTES,
                own.unpacked / 1e6,
                STOCK,
                theirs.unpacked / 1e6,
                Bar(share=0.5),
                f"of stock's, {base.unpacked / 1e6:.0f} MB are its base, {kind}",
                Meaning.SHARE,
            ),
            size.transferred(OWN, own, STOCK, theirs, None),
        ]

    def rounds(self, both: bool, settings: bool, repeat: int) -> dict[str, Measured]:
        """Measure servers in turn.

        Args:
            both: all of both sides, not only ours as it is.
            settings: also ours set up otherwise, in one round.
            repeat: how many rounds there are.

        Returns:
            the medians, by the name of the contestant.
        """
        plain = [(contestant(OWN, CHOSEN), CHOSEN)]
        if both:
            plain = [(contestant(side, count), count) for count in WORKERS for side in (STOCK, OWN)]
        others = []
        for name, variables in (SETTINGS if settings else {}).items():
            count = int(variables[_WORKERS])
            made = replace(contestant(OWN, count, **variables), name=f"{OWN} with {name}")
            others.append((made, count))
        found: dict[str, list[Measured]] = defaultdict(list)
        for number in range(repeat):
            for each, count in (*plain, *(others if number == 0 else ())):
                found[each.name].append(self._try_out(each, count))
        return {
            name: Measured(**medians(rounds, summed=("errors",))) for name, rounds in found.items()
        }

    def _try_out(self, each: Contestant, workers: int) -> Measured:
        with self.started(each, workers) as (running, start):
            with self._measured(running, f"{each.name}: one client") as detail:
                detail["milliseconds"] = call = load.one_after_the_other(
                    running.address, each.port, self.call, warm=WARM, count=COUNT
                )
            outcomes = [self._loaded(running, clients) for clients in (FEW, MANY)]
            memory, processes = running.memory()
        few, many = outcomes
        return Measured(
            start=start,
            call=call,
            few=few.rate,
            many=many.rate,
            slow_many=many.slowest_percent,
            errors=sum(sum(outcome.errors.values()) for outcome in outcomes),
            client_share=many.client_share,
            memory=memory,
            processes=processes,
        )

    def faults(self, repeat: int) -> list[Figure]:
        """Let both sides suffer what they may meet, with two workers each."""
        suffered: dict[tuple[str, str], Suffered] = defaultdict(Suffered)
        sides = [contestant(side, CHOSEN) for side in (STOCK, OWN)]
        for _ in range(repeat):
            for fault in faults.FAULTS:
                for each in sides:
                    with self.started(each, CHOSEN) as (running, _):
                        expected = replace(self.call, expected=self.checked(running))
                        label = f"{each.name}: {fault.name}"
                        with self.watch.measure(label, containers=True) as detail:
                            outcome = faults.suffer(running, fault, expected)
                            detail |= vars(outcome)
                    suffered[fault.name, each.name] += outcome
        stock_name, own_name = (each.name for each in sides)
        return [
            Figure(
                f"{own_name}: failed at {fault.name}",
                _REQUESTS,
                suffered[fault.name, own_name].failed,
                stock_name,
                suffered[fault.name, stock_name].failed,
                Bar(value=0),
                f"{suffered[fault.name, own_name]}; stock: {suffered[fault.name, stock_name]};"
                f" in {repeat} rounds, {faults.CLIENTS} connections",
                Meaning.SHARE,
            )
            for fault in faults.FAULTS
        ]

    def floors(self, own: Measured) -> list[Figure]:
        """Measure what bounds our server: the model alone, and HTTP alone."""
        alone = self._in_process()
        bare = replace(floor.handler(models.reference(OWN, 1), self.interpreter), limits=LIMITS)
        running = Running.create(self.client, self.session, bare)
        try:
            running.start()
            with self._measured(running, BARE) as detail:
                detail["milliseconds"] = echoed = load.one_after_the_other(
                    running.address, bare.port, self.call, warm=WARM, count=COUNT
                )
            echoes = self._loaded(running, MANY)
        finally:
            running.remove()
        name = contestant(OWN, CHOSEN).name
        processors = LIMITS["nano_cpus"] / 10**9
        return [
            Figure(f"{name}: {what}", unit, value, against, baseline, meaning=Meaning.SHARE)
            for what, unit, value, against, baseline in (
                ("one row, p50", "ms", own.call, "the model in-process", alone),
                ("one row, p50", "ms", own.call, BARE, echoed),
                (
                    f"{MANY} connections",
                    _RATE,
                    own.many,
                    f"the model in-process, reckoned for {processors:.0f} processors",
                    1000 / alone * processors,
                ),
                (f"{MANY} connections", _RATE, own.many, BARE, echoes.rate),
            )
        ]

    def _in_process(self) -> float:
        """Milliseconds that MLflow's own function takes for an answer, inside our image."""
        body = json.dumps(self.call.body)
        command = [self.interpreter, "-c", floor.IN_PROCESS, body, str(WARM), str(COUNT)]
        # As many threads as each of two workers has.
        one = {"OMP_NUM_THREADS": "1"}
        with (
            self.watch.measure("the model in-process", containers=True) as detail,
            script.ended(
                self.client,
                self.session,
                models.reference(OWN, 1),
                command,
                environment=one,
                limits=LIMITS,
            ) as (_, printed),
        ):
            detail["milliseconds"] = took = float(json.loads(printed)["milliseconds"])
        return took

    @contextmanager
    def started(self, each: Contestant, workers: int) -> Iterator[tuple[Running, float]]:
        """Start a server, see that it predicts what the model does, and remove it at the end."""
        running = Running.create(self.client, self.session, each)
        try:
            with self._measured(running, f"{each.name}: first 200") as detail:
                detail["seconds"] = start = running.start()
                detail["image"] = running.container.attrs["Image"]
            faults.wait_for_workers(running, workers)
            self.checked(running)
            # Each worker's first request takes longer.
            load.many_at_once(running.base, [self.call], clients=FEW, requests=10 * FEW)
            yield running, start
        finally:
            running.remove()

    def _loaded(self, running: Running, clients: int) -> Outcome:
        name = running.contestant.name
        with self._measured(running, f"{name}: {clients} clients") as detail:
            outcome = load.many_at_once(
                running.base, [self.call], clients=clients, seconds=LOAD_SECONDS
            )
            detail |= vars(outcome)
        return outcome

    def checked(self, running: Running) -> bytes:
        """The whole answer of a server, once it is the model's."""
        name = running.contestant.name
        try:
            answer = requests.post(
                f"{running.base}{self.call.path}", json=self.call.body, timeout=load.TIME_LIMIT
            )
        except requests.RequestException as error:
            raise UserError(f"{name} does not answer: {error}") from error
        if not answer.ok:
            raise UserError(f"{name} answers {answer.status_code}: {answer.text[:200]}")
        if answer.json()["predictions"] != self.builds.trained.predictions:
            raise UserError(f"{name} predicts other numbers than the model: {answer.text[:200]}")
        return answer.content

    def _measured(self, running: Running, label: str) -> AbstractContextManager[dict[str, Any]]:
        return self.watch.measure(label, containers=True, own=_own(running))


def _own(running: Running) -> Callable[[], float]:
    """CPU seconds of this process and of a server, so far."""
    return lambda: time.process_time() + running.processor_seconds()


@contextmanager
def staged(
    watch: Stopwatch, runner: Runner, versions: int, program: Path = models.VERSIONS
) -> Iterator[Stage]:
    """Make the model, and a network; whatever was built and started is removed at the end.

    Args:
        watch: keeps the samples.
        runner: builds the images.
        versions: how many the model has.
        program: what makes it.

    Raises:
        UserError: something that is needed is not there, or the model can't be made.
    """
    trainer = catalogue.load().variant(TRAINER)
    interpreter = load_contract(trainer.contract).start.interpreter
    with (
        closing(connection.connect()) as client,
        scratch.folder() as folder,
    ):
        session = Session.begin()
        try:
            session.create_network(client)
            with watch.measure("making the model", containers=True):
                trained = models.train(
                    client,
                    session,
                    trainer.reference,
                    interpreter,
                    folder,
                    versions,
                    program,
                )
            stand_in = session.image_name(stock.TARGET, "stand-in")
            base = stock.find_base(trained.python, stand_in, table.console())
            yield Stage(watch, client, session, Builds(runner, trained, base), interpreter)
        finally:
            remove_session(client, session)
            models.remove()
