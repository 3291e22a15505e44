"""Effects of hostile clients, overload and hung work on servers, against MLflow's own.

Servers of a model are those of `bench serving`: the image of `invoke model` and the one that
`mlflow models build-docker` makes. Tracking servers are `hardened`, and `custom`, which runs
upstream's `mlflow server`. One server runs at a time; everything is bounded in count and time, and
goes to containers of this run.
"""

from __future__ import annotations

import json
import resource
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from docker.types import Ulimit

from bench import (
    client_runs,
    connection_load,
    hanging,
    load,
    model_versions,
    overload,
    serving_suite,
    size,
)
from bench.candidate import Candidate, Running, proportional_size
from bench.figures import SECONDS, Bar, Figure, share_figure
from bench.load import Call
from bench.serving_suite import CHOSEN, MLFLOW, SEATRIAL
from seatrial import catalogue
from seatrial.engine import connection
from seatrial.errors import UserError
from seatrial.stack.running_server import HARD_FILES, SOFT_FILES
from seatrial.wire import framing, heads
from seatrial.wire.cases import WireTarget, length, request
from seatrial.wire.conformance import try_out
from seatrial.wire.exchange import HTTPAddress

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence

    from bench.connection_load import ConnectionResult
    from bench.measuring import Stopwatch
    from bench.overload import OverloadResult
    from bench.runner import Runner
    from bench.serving_suite import ModelBench

PARTS = ("framing", "heads", "connections", "overload", "hang", "clients")
REPEAT = 1

IDLE, ACTIVE = 10_000, 2_000
"""Numbers of connections."""
MODEL_PAUSE, TRACKING_PAUSE = 5.0, 30.0
"""Seconds between two requests of an active connection: a search of experiments takes ten times as
long as a prediction, and what is measured is connections, not overload."""
WAIT = 0.1
"""Seconds that a prediction takes under overload: the client needs the processors as well."""
TIMES = 3
"""Overload, as a multiple of the capacity."""
OVERLOAD_SECONDS = 8.0
CAPACITY_CLIENTS = 24
"""Clients that neither server sheds: each server has at least 12 threads, on two processors."""
UNLOADED_SHARE = 0.25
"""Share of the capacity at which no request waits."""
REQUEST_LIMIT = 5
"""Seconds after which a prediction is overdue, where it hangs."""
REPLACED_LATE = 5
"""Seconds that a replacement may take longer than that."""
HARDENED, UPSTREAM = "hardened", "custom"
_MILLISECONDS, _CASES, _CONNECTIONS, _REQUESTS = "ms", "cases", "connections", "requests"
_MEBIBYTE = 1 << 20
_LIBRARY = "/pandas/"

T = TypeVar("T")


@dataclass
class FramingResult:
    """Answers to the cases of framing."""

    tried: int
    faults: int
    desynchronised: int


@dataclass
class EndlessHeadsResult:
    """Costs of request heads without an end."""

    bytes: int
    """Total size of the heads that the server did not cut off."""
    uncut: list[str] = field(default_factory=list)
    memory: float = 0.0
    """Largest growth of a process, in 10^6 bytes."""


def measure(watch: Stopwatch, runner: Runner, parts: Sequence[str]) -> list[Figure]:
    """Measure both kinds of servers.

    Args:
        watch: keeps the samples.
        runner: builds the images.
        parts: of `PARTS`.

    Raises:
        UserError: this is no machine for MLflow's own images, something that is needed is not
            there, a build failed, or a server did not start.
    """
    if connection.native_platform() != model_versions.PLATFORM:
        raise UserError(f"MLflow builds images for {model_versions.PLATFORM} alone")
    with serving_suite.model_bench(
        watch, runner, versions=1, program=model_versions.SCRIPTED
    ) as bench:
        bench.build()
        suite = _LimitsBench(bench)
        made: dict[str, Callable[[], list[Figure]]] = {
            "framing": suite.framing,
            "heads": suite.heads,
            "connections": suite.connections,
            "overload": suite.overload,
            "hang": suite.hang,
            "clients": suite.clients,
        }
        return [figure for part in parts for figure in made[part]()]


def limited(candidate: Candidate) -> Candidate:
    """Add the soft limit of open files that engines give a container."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = HARD_FILES if most == resource.RLIM_INFINITY else min(HARD_FILES, most)
    files = Ulimit(name="nofile", soft=SOFT_FILES, hard=hard)
    return replace(candidate, limits={**candidate.limits, "ulimits": [files]})


def tracking(variant: str) -> Candidate:
    """Describe a tracking server on SQLite, with two workers."""
    command = () if variant == HARDENED else ("mlflow",)
    options = (
        *("--host", "0.0.0.0", "--port", "5000", "--workers", "2"),
        *("--backend-store-uri", "sqlite:////tmp/mlflow.db"),
        *("--artifacts-destination", "/tmp/artifacts"),
    )
    return Candidate(
        f"{variant}, tracking",
        catalogue.load().variant(variant).reference,
        (*command, "server", *options),
        {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        limits=serving_suite.LIMITS,
    )


@dataclass(frozen=True)
class _LimitsBench:
    bench: ModelBench

    def framing(self) -> list[Figure]:
        """Send every case of framing, and every offer of another protocol."""

        def frame(running: Running) -> FramingResult:
            target = self._target(running)
            cases = [*framing.cases(target), *framing.upgrades(target)]
            faults = try_out(target, cases)
            desynchronised = sum(fault.desynchronised for fault in faults)
            return FramingResult(len(cases), len(faults), desynchronised)

        figures = []
        for seatrial, mlflow in self._pairs():
            theirs, ours = (self._measure(side, "framing", frame) for side in (mlflow, seatrial))
            figures.append(
                share_figure(
                    f"{seatrial.name}: desynchronised, of {ours.tried}",
                    _CASES,
                    ours.desynchronised,
                    mlflow.name,
                    theirs.desynchronised,
                    Bar(value=0),
                    f"{ours.faults} were answered otherwise than the standard wants; mlflow:"
                    f" {theirs.faults}",
                )
            )
        return figures

    def heads(self) -> list[Figure]:
        """Send parts of requests without an end, and measure the costs."""

        def send(running: Running) -> EndlessHeadsResult:
            target = self._target(running)
            before = _sizes(running)
            found = EndlessHeadsResult(0)
            for endless in heads.endless(target):
                count = heads.taken(target.address, endless)
                if count is not None:
                    found.bytes += count
                    found.uncut.append(endless.name)
                grown = [size - before.get(pid, 0) for pid, size in _sizes(running).items()]
                found.memory = max(found.memory, *grown)
            return found

        figures = []
        for seatrial, mlflow in self._pairs():
            theirs, ours = (
                self._measure(side, "endless heads", send) for side in (mlflow, seatrial)
            )
            figures += [
                share_figure(
                    f"{seatrial.name}: endless parts of requests that were taken",
                    _REQUESTS,
                    len(ours.uncut),
                    mlflow.name,
                    len(theirs.uncut),
                    Bar(value=0),
                    f"ours: {', '.join(ours.uncut) or 'none'}; mlflow:"
                    f" {', '.join(theirs.uncut) or 'none'}; each until"
                    f" {heads.MOST / _MEBIBYTE:.0f} MiB were sent",
                ),
                share_figure(
                    f"{seatrial.name}: memory that they took in one process",
                    size.MEGABYTES,
                    ours.memory,
                    mlflow.name,
                    theirs.memory,
                ),
            ]
        return figures

    def connections(self) -> list[Figure]:
        """Keep idle connections and active ones, and check health meanwhile."""
        figures = []
        for seatrial, mlflow in self._pairs():
            (theirs, other), (ours, front) = (self._loaded(side) for side in (mlflow, seatrial))
            note = f"{ours.open} idle ones, answers {_counted(ours.statuses)}; mlflow: "
            note += f"{theirs.open} idle ones, answers {_counted(theirs.statuses)}"
            figures += [
                share_figure(
                    f"{seatrial.name}: health, p99, with {IDLE} idle and {ACTIVE} active"
                    " connections",
                    _MILLISECONDS,
                    ours.slowest_ping,
                    mlflow.name,
                    theirs.slowest_ping,
                    Bar(value=100.0),
                    "on a new connection each time",
                ),
                share_figure(
                    f"{seatrial.name}: connections without an answer",
                    _CONNECTIONS,
                    ours.lost,
                    mlflow.name,
                    theirs.lost,
                    Bar(value=0),
                    note,
                ),
                share_figure(
                    f"{seatrial.name}: memory (PSS) of the process that holds most connections",
                    size.MEGABYTES,
                    front,
                    mlflow.name,
                    other,
                    Bar(value=300.0),
                ),
            ]
        return figures

    def overload(self) -> list[Figure]:
        """Send three times as many requests as are answered."""
        seatrial, mlflow = self._models()
        (other_capacity, other_plain, other), (capacity, plain, flow) = (
            self._overloaded(side) for side in (mlflow, seatrial)
        )
        return [
            share_figure(
                f"{seatrial.name}: accepted, p99, at {TIMES} times the capacity",
                _MILLISECONDS,
                flow.slowest_accepted,
                "the same without overload",
                plain.slowest_accepted,
                Bar(share=2.0),
                f"{capacity:.0f} requests a second are answered; {flow}",
            ),
            share_figure(
                f"{mlflow.name}: accepted, p99, at {TIMES} times the capacity",
                _MILLISECONDS,
                other.slowest_accepted,
                "the same without overload",
                other_plain.slowest_accepted,
                note=f"{other_capacity:.0f} requests a second are answered; {other}",
            ),
            share_figure(
                f"{seatrial.name}: until 503, p99",
                _MILLISECONDS,
                flow.slowest_shed,
                mlflow.name,
                other.slowest_shed,
                Bar(value=50.0),
                f"{len(flow.shed) / flow.sent:.0%} of the requests were shed; mlflow:"
                f" {len(other.shed) / other.sent:.0%}",
            ),
        ]

    def hang(self) -> list[Figure]:
        """Hang all workers, and stop a worker."""
        limit = {"MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": str(REQUEST_LIMIT)}
        seatrial, mlflow = self._models(**limit)
        stuck = self._waiting(3600.0).body
        plain = self.bench.call.body
        assert stuck
        assert plain
        measured: dict[str, Callable[[Running], float]] = {
            f"until all is answered again, {hanging.HANGING} predictions hang": (
                lambda running: hanging.until_answers(running, plain, stuck)
            ),
            "until it is replaced, one worker is stopped": (
                lambda running: hanging.until_replaced(running, plain, _LIBRARY)
            ),
        }
        figures = []
        for name, act in measured.items():
            theirs, ours = (self._measure(side, name, act) for side in (mlflow, seatrial))
            figures.append(
                share_figure(
                    f"{seatrial.name}: {name}",
                    SECONDS,
                    ours,
                    mlflow.name,
                    theirs,
                    Bar(value=float(REQUEST_LIMIT + REPLACED_LATE)),
                    f"a prediction is overdue after {REQUEST_LIMIT} s; nobody waited longer than"
                    f" {hanging.LONGEST:.0f} s",
                )
            )
        return figures

    def clients(self) -> list[Figure]:
        """Have the clients of several languages send requests with a body."""
        seatrial, mlflow = self._models()
        body = json.dumps(self.bench.call.body)

        def send(running: Running) -> dict[str, int]:
            url = f"{running.base}{self.bench.call.path}"
            there = [client for client in client_runs.CLIENTS if client.is_there]
            return {client.name: client.send(url, body) for client in there}

        found = {side.name: self._measure(side, "clients", send) for side in (mlflow, seatrial)}
        figures = []
        for client in client_runs.CLIENTS:
            if not client.is_there:
                self.bench.watch.tell(f"{client.name}: {client.needs.rstrip('.')} is not here")
                continue
            ours, theirs = (
                client_runs.COUNT - found[side.name][client.name] for side in (seatrial, mlflow)
            )
            figures.append(
                share_figure(
                    f"{seatrial.name}: {client.name}, failed of {client_runs.COUNT}",
                    _REQUESTS,
                    ours,
                    mlflow.name,
                    theirs,
                    Bar(value=0),
                )
            )
        return figures

    def _models(self, **variables: str) -> tuple[Candidate, Candidate]:
        """Describe both servers of the model, ours with its default queue."""
        variables = {"MLFLOW_MODELS_QUEUE": "", **variables}
        seatrial, mlflow = (
            limited(serving_suite.candidate(side, CHOSEN, **variables))
            for side in (SEATRIAL, MLFLOW)
        )
        return seatrial, mlflow

    def _pairs(self) -> list[tuple[Candidate, Candidate]]:
        """Pair our servers with MLflow's, of the model and for tracking."""
        return [self._models(), (limited(tracking(HARDENED)), limited(tracking(UPSTREAM)))]

    def _target(self, running: Running) -> WireTarget:
        address = HTTPAddress(running.address, running.candidate.port)
        if running.candidate.path == "/ping":
            body = json.dumps(self.bench.call.body).encode()
            return WireTarget(address, "/ping", self.bench.call.path, "application/json", body)
        return WireTarget(
            address,
            "/health",
            "/api/2.0/mlflow/experiments/search",
            "application/json",
            b'{"max_results": 1}',
            in_chunks=None,
        )

    def _waiting(self, seconds: float) -> Call:
        """Make a request with one row whose prediction takes so many seconds."""
        body = {**(self.bench.call.body or {}), "params": {"pause": seconds}}
        return Call(self.bench.call.path, body)

    def _loaded(self, candidate: Candidate) -> tuple[ConnectionResult, float]:
        memory: list[float] = []

        def send(running: Running) -> ConnectionResult:
            target = self._target(running)
            plan = connection_load.ConnectionPlan(
                target.address,
                idle=IDLE,
                active=ACTIVE,
                first=request(f"GET {target.health} HTTP/1.1", target.host),
                request=target.post(length(target.payload), body=target.payload),
                path=target.health,
                pause=MODEL_PAUSE if candidate.path == "/ping" else TRACKING_PAUSE,
            )
            return connection_load.run(plan, lambda: memory.append(_holder(running)))

        return self._measure(candidate, "connections", send), memory[0]

    def _overloaded(self, candidate: Candidate) -> tuple[float, OverloadResult, OverloadResult]:
        """Measure the capacity, then send requests far below it and far above."""

        def act(running: Running) -> tuple[float, OverloadResult, OverloadResult]:
            call = self._waiting(WAIT)
            full = load.many_at_once(
                running.base, [call], clients=CAPACITY_CLIENTS, seconds=OVERLOAD_SECONDS / 2
            )
            capacity = full.rate
            plain = overload.send_at_rate(
                running.base, call, rate=UNLOADED_SHARE * capacity, seconds=OVERLOAD_SECONDS
            )
            flow = overload.send_at_rate(
                running.base, call, rate=TIMES * capacity, seconds=OVERLOAD_SECONDS
            )
            return capacity, plain, flow

        return self._measure(candidate, "overload", act)

    def _measure(self, candidate: Candidate, label: str, act: Callable[[Running], T]) -> T:
        """Start a server, apply a measurement to it and remove it."""
        with self._running(candidate) as running:
            with self.bench.watch.measure(f"{candidate.name}: {label}", containers=True) as detail:
                found = act(running)
                detail["found"] = repr(found)[:2000]
            return found

    @contextmanager
    def _running(self, candidate: Candidate) -> Iterator[Running]:
        if candidate.path == "/ping":
            with self.bench.started(candidate, CHOSEN) as (running, _):
                yield running
            return
        with Running.created(self.bench.client, self.bench.session, candidate) as running:
            running.start()
            yield running


def _counted(statuses: Counter[int]) -> str:
    return ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())) or "none"


def _sizes(running: Running) -> dict[int, float]:
    """Read the PSS of each process, in 10^6 bytes."""
    return running.look(proportional_size)


def _holder(running: Running) -> float:
    """Read the PSS of the process with most open files, in 10^6 bytes: it holds the connections."""
    files = running.look(lambda process: sum(1 for _ in (process / "fd").iterdir()))
    sizes = _sizes(running)
    return sizes.get(max(files, key=lambda pid: files[pid]), 0.0)
