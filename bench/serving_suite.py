"""Costs of an image of `invoke model`, against that of `mlflow models build-docker`.

Both images are built here, from one model, and run under the same limits, one server at a time and
in turn; the median over the rounds counts. MLflow's image is measured with one worker and with two,
and the better one is the baseline of a figure. Ours has two, its default under these limits.
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

from bench import container_script, fault_injection, floor, load, model_versions, size
from bench.candidate import Candidate, Running, processor_seconds
from bench.figures import SECONDS, Bar, Figure, median_seconds, medians, share_figure
from bench.load import Call
from bench.model_versions import PLATFORM, TRAINER, Builds
from seatrial import catalogue, scratch
from seatrial.console import make_console
from seatrial.contract import load as load_contract
from seatrial.engine import connection
from seatrial.errors import UserError
from seatrial.model import build_docker
from seatrial.stack.labels import Session, remove_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from docker import DockerClient

    from bench.load import LoadResult
    from bench.measuring import Stopwatch
    from bench.runner import Runner

PARTS = ("build", "size", "serving", "faults", "floor", "settings")
REPEAT = 3

SIDES = MLFLOW, SEATRIAL = "mlflow", "seatrial"
WORKERS = (1, 2)
CHOSEN = 2
FEW, MANY = 8, 64
"""Numbers of connections."""
LOAD_SECONDS = 4.0
WARM, COUNT = 30, 300
BARE = "bare uvicorn echo, one process"
LIMITS: Mapping[str, Any] = {
    "nano_cpus": min(2, os.cpu_count() or 1) * 10**9,
    "mem_limit": "2g",
}
"""Limits of every container; the client shares its processors."""

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
"""Settings of our server. Its defaults on two processors are two workers with one BLAS thread each,
or one with two, and six concurrent requests in each worker."""


@dataclass(frozen=True)
class ModelRound:
    """Measurements of a model server in a round."""

    start: float
    """Seconds to the first 200 on /ping."""
    call: float
    """Median latency of a request with one row on an open connection, in milliseconds."""
    few: float
    """Answers per second on `FEW` connections."""
    many: float
    """Answers per second on `MANY` connections."""
    slow_many: float
    """99th percentile of the latency on `MANY` connections, in seconds."""
    errors: float
    """Errors on `FEW` and on `MANY` connections."""
    client_share: float
    """CPU time of the client on `MANY` connections, as a share of one core."""
    memory: float
    """PSS of all processes in 10^6 bytes, after the load."""
    processes: float


@dataclass(frozen=True)
class FaultResult:
    """Answers and errors around a fault, over all rounds."""

    failed: int = 0
    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """Errors by status or exception, refused connections included."""

    def __add__(self, load: LoadResult) -> FaultResult:
        return FaultResult(
            self.failed + load.failed,
            self.answered + load.answered,
            self.errors + Counter(load.errors),
        )

    def __str__(self) -> str:
        errors = ", ".join(f"{name}: {count}" for name, count in sorted(self.errors.items()))
        return f"{self.answered} were answered ({errors or 'no error at all'})"


def candidate(side: str, workers: int, name: str = "", **variables: str) -> Candidate:
    """Describe a server of the model's first version.

    Args:
        side: `SEATRIAL` or `MLFLOW`.
        workers: how many it has.
        name: in figures; the number of workers if empty.
        variables: of its environment.
    """
    return Candidate(
        f"{side}, {name or counted(workers)}",
        model_versions.reference(side, 1),
        # Our default queue is shorter than the number of connections here.
        environment={_WORKERS: str(workers), _QUEUE: str(MANY), **variables},
        path="/ping",
        port=_PORT,
        limits=LIMITS,
    )


def counted(workers: int) -> str:
    """Word a number of workers."""
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
    with model_bench(watch, runner, versions=1 + repeat) as bench:
        figures: list[Figure] = []
        if "build" in parts:
            figures += bench.building(repeat)
        else:
            bench.build()
        if "size" in parts:
            figures += bench.weighing()
        servers = "serving" in parts or "settings" in parts or "floor" in parts
        found = bench.rounds("serving" in parts, "settings" in parts, repeat) if servers else {}
        if "serving" in parts:
            figures += compare(found)
        if "faults" in parts:
            figures += bench.faults(repeat)
        if "floor" in parts:
            figures += bench.floors(found[candidate(SEATRIAL, CHOSEN).name])
        if "settings" in parts:
            figures += compare_settings(found)
    return figures


def compare(found: Mapping[str, ModelRound]) -> Iterator[Figure]:
    """Compare our server with MLflow's, with the bars.

    Args:
        found: by the names of `candidate`.
    """
    ours = candidate(SEATRIAL, CHOSEN).name
    seatrial = found[ours]
    theirs = {
        candidate(MLFLOW, count).name: found[candidate(MLFLOW, count).name] for count in WORKERS
    }

    def share(name: str, unit: str, measure: str, bar: Bar, note: str = "") -> Figure:
        best = max if bar.least_share else min
        against = best(theirs, key=lambda server: getattr(theirs[server], measure))
        baseline = getattr(theirs[against], measure)
        other = ", ".join(
            f"{server} {getattr(theirs[server], measure):.1f} {unit}"
            for server in theirs
            if server != against
        )
        return share_figure(
            f"{ours}: {name}",
            unit,
            getattr(seatrial, measure),
            against,
            baseline,
            bar,
            f"{other}{'; ' if note else ''}{note}",
        )

    def every(measure: str, spec: str) -> str:
        return " and ".join(format(getattr(values, measure), spec) for values in theirs.values())

    yield share("one row, p50", "ms", "call", Bar(share=0.6))
    yield share(f"{FEW} connections", _RATE, "few", Bar(least_share=1.5))
    yield share(
        f"{MANY} connections",
        _RATE,
        "many",
        Bar(least_share=1.5),
        f"p99 {seatrial.slow_many:.2f} s ({every('slow_many', '.2f')} s),"
        f" {seatrial.errors:.0f} errors ({every('errors', '.0f')}), the client took"
        f" {seatrial.client_share:.0%} of a core ({every('client_share', '.0%')})",
    )
    yield share("first 200 on /ping", SECONDS, "start", Bar(share=0.5))
    for count in WORKERS:
        ours, other = candidate(SEATRIAL, count).name, candidate(MLFLOW, count).name
        yield share_figure(
            f"{ours}: memory (PSS)",
            size.MEGABYTES,
            found[ours].memory,
            other,
            found[other].memory,
            Bar(share=1.0),
            f"{found[ours].processes:.0f} processes against {found[other].processes:.0f}",
        )


def compare_settings(found: Mapping[str, ModelRound]) -> Iterator[Figure]:
    """Compare our server's settings with its defaults."""
    plain = candidate(SEATRIAL, CHOSEN).name
    for setting in SETTINGS:
        name = f"{SEATRIAL} with {setting}"
        for label, unit, measure in (
            ("one row, p50", "ms", "call"),
            (f"{FEW} connections", _RATE, "few"),
            (f"{MANY} connections", _RATE, "many"),
        ):
            value, baseline = (getattr(found[server], measure) for server in (name, plain))
            yield share_figure(f"{name}: {label}", unit, value, plain, baseline)


@dataclass(frozen=True)
class ModelBench:
    """The model, its images, and a network for its servers."""

    watch: Stopwatch
    client: DockerClient
    session: Session
    builds: Builds
    interpreter: str
    """Python, in our image."""

    @property
    def call(self) -> Call:
        """Request with one row."""
        return Call("/invocations", self.builds.trained.body)

    def build(self) -> None:
        """Build both images, with whatever the cache holds."""
        with self.watch.measure("seatrial: build, whatever is cached"):
            self.builds.seatrial(1)
        with self.watch.measure("mlflow: build, whatever is cached"):
            self.builds.mlflow(1)

    def building(self, repeat: int) -> list[Figure]:
        """Build both images with nothing of the environment cached, and then of new versions."""
        with self.watch.measure("seatrial: build, to have its bases and its downloads there"):
            self.builds.seatrial(1, "seatrial-before")
        with self.watch.measure("seatrial: cold build") as detail:
            detail["build"] = cold_alone = self.builds.seatrial_anew(1)
        with self.watch.measure("mlflow: cold build") as detail:
            detail["steps"] = took = self.builds.mlflow_anew(1)
        ours, theirs = (sample.seconds for sample in self.watch.last(2))
        alone = []
        for version in range(2, 2 + repeat):
            with self.watch.measure("seatrial: build of a new version") as detail:
                detail["build"] = seconds = self.builds.seatrial(version)
            alone.append(seconds)
        rebuilt = median_seconds(self.watch.last(repeat))
        with self.watch.measure("mlflow: build of a new version"):
            self.builds.mlflow(2)
        rebuilt_mlflow = median_seconds(self.watch.last(1))
        weight = sum(
            path.stat().st_size
            for path in self.builds.trained.version(2).rglob("*")
            if path.is_file()
        )
        longest = sorted(took.items(), key=lambda step: -step[1])[:3]
        return [
            share_figure(
                f"{SEATRIAL}: cold build",
                SECONDS,
                ours,
                MLFLOW,
                theirs,
                Bar(share=0.6),
                f"`invoke model` from start to end, {cold_alone:.1f} s of it the build; uv has its"
                " downloads in a cache, pip in a RUN has none. Of MLflow's,"
                f" {', '.join(f'{seconds:.0f} s {step[:40]}' for step, seconds in longest)}",
            ),
            share_figure(
                f"{SEATRIAL}: build of a new version",
                SECONDS,
                rebuilt,
                MLFLOW,
                rebuilt_mlflow,
                Bar(value=5.0),
                f"`invoke model` from start to end, {median(alone):.1f} s of it the build; the"
                f" model has {weight / 1e6:.2f} MB",
            ),
        ]

    def weighing(self) -> list[Figure]:
        """Weigh both images."""
        ours, theirs = (
            size.weighed(self.watch, model_versions.reference(side, 1))
            for side in (SEATRIAL, MLFLOW)
        )
        base = size.weighed(self.watch, self.builds.base.image)
        origin = "a stand-in" if self.builds.base.stand_in else "the official one"
        return [
            share_figure(
                f"{SEATRIAL}: uncompressed",
                size.MEGABYTES,
                ours.unpacked / 1e6,
                MLFLOW,
                theirs.unpacked / 1e6,
                Bar(share=0.5),
                f"of MLflow's, {base.unpacked / 1e6:.0f} MB are its base, {origin}",
            ),
            size.transferred(SEATRIAL, ours, MLFLOW, theirs, None),
        ]

    def rounds(self, both: bool, settings: bool, repeat: int) -> dict[str, ModelRound]:
        """Measure servers in turn.

        Args:
            both: all of both sides, not only ours as it is.
            settings: also ours set up otherwise, in one round.
            repeat: how many rounds there are.

        Returns:
            the medians, by the name of the candidate.
        """
        plain = [(candidate(SEATRIAL, CHOSEN), CHOSEN)]
        if both:
            plain = [
                (candidate(side, count), count) for count in WORKERS for side in (MLFLOW, SEATRIAL)
            ]
        others = []
        for name, variables in (SETTINGS if settings else {}).items():
            count = int(variables[_WORKERS])
            made = replace(candidate(SEATRIAL, count, **variables), name=f"{SEATRIAL} with {name}")
            others.append((made, count))
        found: dict[str, list[ModelRound]] = defaultdict(list)
        for number in range(repeat):
            for server, count in (*plain, *(others if number == 0 else ())):
                found[server.name].append(self._try_out(server, count))
        return {
            name: ModelRound(**medians(rounds, summed=("errors",)))
            for name, rounds in found.items()
        }

    def _try_out(self, server: Candidate, workers: int) -> ModelRound:
        with self.started(server, workers) as (running, start):
            with self._measured(running, f"{server.name}: one client") as detail:
                detail["milliseconds"] = call = load.one_after_the_other(
                    running.address, server.port, self.call, warm=WARM, count=COUNT
                )
            loads = [self._loaded(running, clients) for clients in (FEW, MANY)]
            memory, processes = running.memory()
        few, many = loads
        return ModelRound(
            start=start,
            call=call,
            few=few.rate,
            many=many.rate,
            slow_many=many.slowest_percent,
            errors=sum(sum(result.errors.values()) for result in loads),
            client_share=many.client_share,
            memory=memory,
            processes=processes,
        )

    def faults(self, repeat: int) -> list[Figure]:
        """Inject every fault into both sides, with two workers each."""
        results: dict[tuple[str, str], FaultResult] = defaultdict(FaultResult)
        sides = [candidate(side, CHOSEN) for side in SIDES]
        for _ in range(repeat):
            for fault in fault_injection.FAULTS:
                for server in sides:
                    with self.started(server, CHOSEN) as (running, _):
                        expected = replace(self.call, expected=self.checked(running))
                        label = f"{server.name}: {fault.name}"
                        with self.watch.measure(label, containers=True) as detail:
                            result = fault_injection.inject(running, fault, expected)
                            detail |= vars(result)
                    results[fault.name, server.name] += result
        mlflow_name, seatrial_name = (server.name for server in sides)
        return [
            share_figure(
                f"{seatrial_name}: failed at {fault.name}",
                _REQUESTS,
                results[fault.name, seatrial_name].failed,
                mlflow_name,
                results[fault.name, mlflow_name].failed,
                Bar(value=0),
                f"{results[fault.name, seatrial_name]}; mlflow: {results[fault.name, mlflow_name]};"
                f" in {repeat} rounds, {fault_injection.CLIENTS} connections",
            )
            for fault in fault_injection.FAULTS
        ]

    def floors(self, seatrial: ModelRound) -> list[Figure]:
        """Measure lower bounds of our server: the model alone, and HTTP alone."""
        alone = self._in_process()
        bare = replace(
            floor.handler(model_versions.reference(SEATRIAL, 1), self.interpreter), limits=LIMITS
        )
        with Running.created(self.client, self.session, bare) as running:
            running.start()
            with self._measured(running, BARE) as detail:
                detail["milliseconds"] = echoed = load.one_after_the_other(
                    running.address, bare.port, self.call, warm=WARM, count=COUNT
                )
            echoes = self._loaded(running, MANY)
        name = candidate(SEATRIAL, CHOSEN).name
        processors = LIMITS["nano_cpus"] / 10**9
        return [
            share_figure(f"{name}: {label}", unit, value, against, baseline)
            for label, unit, value, against, baseline in (
                ("one row, p50", "ms", seatrial.call, "the model in-process", alone),
                ("one row, p50", "ms", seatrial.call, BARE, echoed),
                (
                    f"{MANY} connections",
                    _RATE,
                    seatrial.many,
                    f"the model in-process, reckoned for {processors:.0f} processors",
                    1000 / alone * processors,
                ),
                (f"{MANY} connections", _RATE, seatrial.many, BARE, echoes.rate),
            )
        ]

    def _in_process(self) -> float:
        """Measure MLflow's own function for an answer, inside our image, in milliseconds."""
        body = json.dumps(self.call.body)
        command = [self.interpreter, "-c", floor.IN_PROCESS, body, str(WARM), str(COUNT)]
        # A worker has one thread, where there are two workers.
        threads = {"OMP_NUM_THREADS": "1"}
        with (
            self.watch.measure("the model in-process", containers=True) as detail,
            container_script.ended(
                self.client,
                self.session,
                model_versions.reference(SEATRIAL, 1),
                command,
                environment=threads,
                limits=LIMITS,
            ) as (_, printed),
        ):
            detail["milliseconds"] = took = float(json.loads(printed)["milliseconds"])
        return took

    @contextmanager
    def started(self, server: Candidate, workers: int) -> Iterator[tuple[Running, float]]:
        """Start a server, check its predictions against the model's, and remove it at the end."""
        with Running.created(self.client, self.session, server) as running:
            with self._measured(running, f"{server.name}: first 200") as detail:
                detail["seconds"] = start = running.start()
                detail["image"] = running.container.attrs["Image"]
            fault_injection.wait_for_workers(running, workers)
            self.checked(running)
            # Each worker's first request takes longer.
            load.many_at_once(running.base, [self.call], clients=FEW, requests=10 * FEW)
            yield running, start

    def _loaded(self, running: Running, clients: int) -> LoadResult:
        name = running.candidate.name
        with self._measured(running, f"{name}: {clients} clients") as detail:
            result = load.many_at_once(
                running.base, [self.call], clients=clients, seconds=LOAD_SECONDS
            )
            detail |= vars(result)
        return result

    def checked(self, running: Running) -> bytes:
        """Return a server's answer, after a check that it is the model's prediction."""
        name = running.candidate.name
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
        return self.watch.measure(label, containers=True, own=_processor_seconds(running))


def _processor_seconds(running: Running) -> Callable[[], float]:
    """Read the CPU time of this process and of a server, in seconds."""
    return lambda: time.process_time() + processor_seconds(running.container)


@contextmanager
def model_bench(
    watch: Stopwatch, runner: Runner, versions: int, program: Path = model_versions.VERSIONS
) -> Iterator[ModelBench]:
    """Make the model and a network; remove what was built and started at the end.

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
                trained = model_versions.train(
                    client,
                    session,
                    trainer.reference,
                    interpreter,
                    folder,
                    versions,
                    program,
                )
            stand_in = session.image_name(build_docker.TARGET, "stand-in")
            base = build_docker.find_base(trained.python, stand_in, make_console())
            yield ModelBench(watch, client, session, Builds(runner, trained, base), interpreter)
        finally:
            remove_session(client, session)
            model_versions.remove()
