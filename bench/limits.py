"""What hostile clients, too many of them, and hung work do to servers, against MLflow's own.

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

from bench import client_runs, crowd, hanging, load, models, overload, serving, size
from bench.contestant import Contestant, Running, proportional_size
from bench.figures import SECONDS, Bar, Figure, Meaning
from bench.load import Call
from bench.serving import CHOSEN, OWN, STOCK
from seatrial import catalogue
from seatrial.engine import connection
from seatrial.errors import UserError
from seatrial.stack.running import HARD_FILES, SOFT_FILES
from seatrial.wire import framing, heads
from seatrial.wire.cases import Target, length, request
from seatrial.wire.exchange import Address
from seatrial.wire.verdict import try_out

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence

    from bench.crowd import Crowd
    from bench.measuring import Stopwatch
    from bench.overload import Flow
    from bench.running import Runner
    from bench.serving import Stage

PARTS = ("framing", "heads", "connections", "overload", "hang", "clients")
REPEAT = 1

IDLE, ACTIVE = 10_000, 2_000
"""Connections."""
MODEL_PAUSE, TRACKING_PAUSE = 5.0, 30.0
"""Seconds between two requests of an active connection: a search of experiments takes ten times as
long as a prediction, and what is measured is connections, not overload."""
WAIT = 0.1
"""Seconds that a prediction takes under overload: the client needs the processors as well."""
TIMES = 3
"""Of the capacity."""
OVERLOAD_SECONDS = 8.0
CAPACITY_CLIENTS = 24
"""As many as neither server sheds; each has 12 threads or more, and two processors to share."""
UNLOADED_SHARE = 0.25
"""Of the capacity, at which nothing waits."""
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
class Framed:
    """What came of the cases of framing."""

    tried: int
    faults: int
    desynchronised: int


@dataclass
class Taken:
    """What came of heads without an end."""

    bytes: int
    """In all of those that were not cut."""
    uncut: list[str] = field(default_factory=list)
    memory: float = 0.0
    """The most that one process has grown by, in 10^6 bytes."""


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
    if connection.native_platform() != models.PLATFORM:
        raise UserError(f"MLflow builds images for {models.PLATFORM} alone")
    with serving.staged(watch, runner, versions=1, program=models.SCRIPTED) as stage:
        stage.build()
        bench = _Bench(stage)
        made: dict[str, Callable[[], list[Figure]]] = {
            "framing": bench.framing,
            "heads": bench.heads,
            "connections": bench.connections,
            "overload": bench.overload,
            "hang": bench.hang,
            "clients": bench.clients,
        }
        return [figure for part in parts for figure in made[part]()]


def limited(each: Contestant) -> Contestant:
    """The same with the soft limit of open files that engines give a container."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = HARD_FILES if most == resource.RLIM_INFINITY else min(HARD_FILES, most)
    files = Ulimit(name="nofile", soft=SOFT_FILES, hard=hard)
    return replace(each, limits={**each.limits, "ulimits": [files]})


def tracking(variant: str) -> Contestant:
    """A tracking server on SQLite, with two workers."""
    command = () if variant == HARDENED else ("mlflow",)
    options = (
        *("--host", "0.0.0.0", "--port", "5000", "--workers", "2"),
        *("--backend-store-uri", "sqlite:////tmp/mlflow.db"),
        *("--artifacts-destination", "/tmp/artifacts"),
    )
    return Contestant(
        f"{variant}, tracking",
        catalogue.load().variant(variant).reference,
        (*command, "server", *options),
        {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        limits=serving.LIMITS,
    )


@dataclass(frozen=True)
class _Bench:
    stage: Stage

    def framing(self) -> list[Figure]:
        """Send every case of framing, and every offer of another protocol."""

        def frame(running: Running) -> Framed:
            target = self._target(running)
            cases = [*framing.cases(target), *framing.upgrades(target)]
            faults = try_out(target, cases)
            desynchronised = sum(fault.desynchronised for fault in faults)
            return Framed(len(cases), len(faults), desynchronised)

        figures = []
        for own, stock in self._pairs():
            found = {each.name: self._each(each, "framing", frame) for each in (stock, own)}
            ours, theirs = found[own.name], found[stock.name]
            figures.append(
                Figure(
                    f"{own.name}: desynchronised, of {ours.tried}",
                    _CASES,
                    ours.desynchronised,
                    stock.name,
                    theirs.desynchronised,
                    Bar(value=0),
                    f"{ours.faults} were answered otherwise than the standard wants; stock:"
                    f" {theirs.faults}",
                    Meaning.SHARE,
                )
            )
        return figures

    def heads(self) -> list[Figure]:
        """Send parts of requests that have no end, and see what they cost."""

        def send(running: Running) -> Taken:
            target = self._target(running)
            before = _sizes(running)
            found = Taken(0)
            for endless in heads.endless(target):
                count = heads.taken(target.address, endless)
                if count is not None:
                    found.bytes += count
                    found.uncut.append(endless.name)
                grown = [size - before.get(pid, 0) for pid, size in _sizes(running).items()]
                found.memory = max(found.memory, *grown)
            return found

        figures = []
        for own, stock in self._pairs():
            found = {each.name: self._each(each, "endless heads", send) for each in (stock, own)}
            ours, theirs = found[own.name], found[stock.name]
            figures += [
                Figure(
                    f"{own.name}: endless parts of requests that were taken",
                    _REQUESTS,
                    len(ours.uncut),
                    stock.name,
                    len(theirs.uncut),
                    Bar(value=0),
                    f"ours: {', '.join(ours.uncut) or 'none'}; stock:"
                    f" {', '.join(theirs.uncut) or 'none'}; each until"
                    f" {heads.MOST / _MEBIBYTE:.0f} MiB were sent",
                    Meaning.SHARE,
                ),
                Figure(
                    f"{own.name}: memory that they took in one process",
                    size.MEGABYTES,
                    ours.memory,
                    stock.name,
                    theirs.memory,
                    meaning=Meaning.SHARE,
                ),
            ]
        return figures

    def connections(self) -> list[Figure]:
        """Keep idle connections and active ones, and check health meanwhile."""
        figures = []
        for own, stock in self._pairs():
            sides = {each.name: self._crowded(each) for each in (stock, own)}
            (ours, front), (theirs, other) = sides[own.name], sides[stock.name]
            told = f"{ours.open} idle ones, answers {_counted(ours.statuses)}; stock: "
            told += f"{theirs.open} idle ones, answers {_counted(theirs.statuses)}"
            figures += [
                Figure(
                    f"{own.name}: health, p99, with {IDLE} idle and {ACTIVE} active connections",
                    _MILLISECONDS,
                    ours.slowest_ping,
                    stock.name,
                    theirs.slowest_ping,
                    Bar(value=100.0),
                    "on a new connection each time",
                    Meaning.SHARE,
                ),
                Figure(
                    f"{own.name}: connections without an answer",
                    _CONNECTIONS,
                    ours.lost,
                    stock.name,
                    theirs.lost,
                    Bar(value=0),
                    told,
                    Meaning.SHARE,
                ),
                Figure(
                    f"{own.name}: memory (PSS) of the process that holds most connections",
                    size.MEGABYTES,
                    front,
                    stock.name,
                    other,
                    Bar(value=300.0),
                    meaning=Meaning.SHARE,
                ),
            ]
        return figures

    def overload(self) -> list[Figure]:
        """Send three times as many requests as are answered."""
        own, stock = self._models()
        found = {each.name: self._overloaded(each) for each in (stock, own)}
        (capacity, plain, flow), (other_capacity, other_plain, other) = (
            found[own.name],
            found[stock.name],
        )
        return [
            Figure(
                f"{own.name}: accepted, p99, at {TIMES} times the capacity",
                _MILLISECONDS,
                flow.slowest_accepted,
                "the same without overload",
                plain.slowest_accepted,
                Bar(share=2.0),
                f"{capacity:.0f} requests a second are answered; {flow}",
                Meaning.SHARE,
            ),
            Figure(
                f"{stock.name}: accepted, p99, at {TIMES} times the capacity",
                _MILLISECONDS,
                other.slowest_accepted,
                "the same without overload",
                other_plain.slowest_accepted,
                note=f"{other_capacity:.0f} requests a second are answered; {other}",
                meaning=Meaning.SHARE,
            ),
            Figure(
                f"{own.name}: until 503, p99",
                _MILLISECONDS,
                flow.slowest_shed,
                stock.name,
                other.slowest_shed,
                Bar(value=50.0),
                f"{len(flow.shed) / flow.sent:.0%} of the requests were shed; stock:"
                f" {len(other.shed) / other.sent:.0%}",
                Meaning.SHARE,
            ),
        ]

    def hang(self) -> list[Figure]:
        """Have all workers hang, and stop one of them."""
        limit = {"MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": str(REQUEST_LIMIT)}
        own, stock = self._models(**limit)
        stuck = self._waiting(3600.0).body
        plain = self.stage.call.body
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
            found = {each.name: self._each(each, name, act) for each in (stock, own)}
            figures.append(
                Figure(
                    f"{own.name}: {name}",
                    SECONDS,
                    found[own.name],
                    stock.name,
                    found[stock.name],
                    Bar(value=float(REQUEST_LIMIT + REPLACED_LATE)),
                    f"a prediction is overdue after {REQUEST_LIMIT} s; nobody waited longer than"
                    f" {hanging.LONGEST:.0f} s",
                    Meaning.SHARE,
                )
            )
        return figures

    def clients(self) -> list[Figure]:
        """Have the clients of several languages send requests with a body."""
        own, stock = self._models()
        found: dict[str, dict[str, int]] = {}
        body = json.dumps(self.stage.call.body)
        for each in (stock, own):

            def send(running: Running) -> dict[str, int]:
                url = f"{running.base}{self.stage.call.path}"
                there = [client for client in client_runs.CLIENTS if client.is_there]
                return {client.name: client.send(url, body) for client in there}

            found[each.name] = self._each(each, "clients", send)
        figures = []
        for client in client_runs.CLIENTS:
            if not client.is_there:
                self.stage.watch.tell(f"{client.name}: {client.needs.rstrip('.')} is not here")
                continue
            ours, theirs = (
                client_runs.COUNT - found[one.name][client.name] for one in (own, stock)
            )
            figures.append(
                Figure(
                    f"{own.name}: {client.name}, failed of {client_runs.COUNT}",
                    _REQUESTS,
                    ours,
                    stock.name,
                    theirs,
                    Bar(value=0),
                    meaning=Meaning.SHARE,
                )
            )
        return figures

    def _models(self, **variables: str) -> tuple[Contestant, Contestant]:
        """Ours, with the queue that it has by default, and MLflow's own server of the model."""
        variables = {"MLFLOW_MODELS_QUEUE": "", **variables}
        own, stock = (
            limited(serving.contestant(side, CHOSEN, **variables)) for side in (OWN, STOCK)
        )
        return own, stock

    def _pairs(self) -> list[tuple[Contestant, Contestant]]:
        """Servers of either kind, ours and the one that it is set against."""
        return [self._models(), (limited(tracking(HARDENED)), limited(tracking(UPSTREAM)))]

    def _target(self, running: Running) -> Target:
        address = Address(running.address, running.contestant.port)
        if running.contestant.path == "/ping":
            body = json.dumps(self.stage.call.body).encode()
            return Target(address, "/ping", self.stage.call.path, "application/json", body)
        return Target(
            address,
            "/health",
            "/api/2.0/mlflow/experiments/search",
            "application/json",
            b'{"max_results": 1}',
            in_chunks=None,
        )

    def _waiting(self, seconds: float) -> Call:
        """Asks with one row for a prediction that takes so long."""
        body = {**(self.stage.call.body or {}), "params": {"pause": seconds}}
        return Call(self.stage.call.path, body)

    def _crowded(self, each: Contestant) -> tuple[Crowd, float]:
        memory: list[float] = []

        def gather(running: Running) -> Crowd:
            target = self._target(running)
            plan = crowd.Plan(
                target.address,
                idle=IDLE,
                active=ACTIVE,
                first=request(f"GET {target.health} HTTP/1.1", target.host),
                request=target.post(length(target.payload), body=target.payload),
                path=target.health,
                pause=MODEL_PAUSE if each.path == "/ping" else TRACKING_PAUSE,
            )
            return crowd.gather(plan, lambda: memory.append(_holder(running)))

        return self._each(each, "connections", gather), memory[0]

    def _overloaded(self, each: Contestant) -> tuple[float, Flow, Flow]:
        """The capacity, and what came of requests far below it and far above."""

        def act(running: Running) -> tuple[float, Flow, Flow]:
            call = self._waiting(WAIT)
            full = load.many_at_once(
                running.base, [call], clients=CAPACITY_CLIENTS, seconds=OVERLOAD_SECONDS / 2
            )
            capacity = full.rate
            plain = overload.pour(
                running.base, call, rate=UNLOADED_SHARE * capacity, seconds=OVERLOAD_SECONDS
            )
            flow = overload.pour(
                running.base, call, rate=TIMES * capacity, seconds=OVERLOAD_SECONDS
            )
            return capacity, plain, flow

        return self._each(each, "overload", act)

    def _each(self, each: Contestant, label: str, act: Callable[[Running], T]) -> T:
        """Do something to a server of its own."""
        with self._running(each) as running:
            with self.stage.watch.measure(f"{each.name}: {label}", containers=True) as detail:
                found = act(running)
                detail["found"] = repr(found)[:2000]
            return found

    @contextmanager
    def _running(self, each: Contestant) -> Iterator[Running]:
        if each.path == "/ping":
            with self.stage.started(each, CHOSEN) as (running, _):
                yield running
            return
        running = Running.create(self.stage.client, self.stage.session, each)
        try:
            running.start()
            yield running
        finally:
            running.remove()


def _counted(statuses: Counter[int]) -> str:
    return ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())) or "none"


def _sizes(running: Running) -> dict[int, float]:
    """PSS in 10^6 bytes, by process."""
    return running.look(proportional_size)


def _holder(running: Running) -> float:
    """PSS in 10^6 bytes of the process that has most open files: it holds the connections."""
    files = running.look(lambda process: sum(1 for _ in (process / "fd").iterdir()))
    sizes = _sizes(running)
    return sizes.get(max(files, key=lambda pid: files[pid]), 0.0)
