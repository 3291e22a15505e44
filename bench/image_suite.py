"""Costs of serving from an image, against the upstream image with the same drivers.

The baseline is `custom`: MLflow's own image with boto3 and the PostgreSQL drivers, run with
`mlflow server` at MLflow's defaults. The other images run with theirs. Each server gets a database
in one PostgreSQL and a bucket in one MinIO. Servers are measured one at a time, in turn, and the
median over the rounds counts.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import requests

from bench import floor, load, size
from bench.candidate import PORT, Candidate, Running, processor_seconds
from bench.figures import SECONDS, Bar, Figure, medians, share_figure
from bench.load import Call
from bench.trial_services import services_session
from seatrial import catalogue
from seatrial.backends.minio import MinIO
from seatrial.backends.postgresql import PostgreSQL
from seatrial.contract import load as load_contract
from seatrial.errors import UserError
from seatrial.stack.labels import SESSION_LABEL, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from docker import DockerClient

    from bench.measuring import Stopwatch
    from seatrial.catalogue import Catalogue
    from seatrial.stack.services import Services

PARTS = ("size", "serving", "settings")
REPEAT = 3
BASELINE = "custom"
VARIANTS = ("hardened", "slim")
TUNED = "hardened"
SIZE_SHARES = {"hardened": 0.75, "slim": 0.4}

READ = "/api/2.0/mlflow/runs/get?run_id={}"
CLIENTS = 200
READS = 3000
WRITES = 1500
WRITTEN_RUNS = 50
WARM, COUNT = 30, 300
SETTLE_SECONDS = 5.0
"""Time before memory is read: upstream starts its job runners after its first answer."""
AGAINST = "upstream with drivers, defaults"

_SMALL_POOL = {
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "10",
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "1",
}
_DEFAULT_POOL = {
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "5",
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "10",
}
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "1 worker": {"MLFLOW_WORKERS": "1", **_DEFAULT_POOL},
    "2 workers": {"MLFLOW_WORKERS": "2", **_DEFAULT_POOL},
    "4 workers": {"MLFLOW_WORKERS": "4", **_DEFAULT_POOL},
    "2 workers, asyncio": {
        "MLFLOW_WORKERS": "2",
        "MLFLOW_UVICORN_OPTS": "--loop asyncio",
        **_DEFAULT_POOL,
    },
    "1 worker, pool 10+1": {"MLFLOW_WORKERS": "1", **_SMALL_POOL},
    "2 workers, pool 10+1": {"MLFLOW_WORKERS": "2", **_SMALL_POOL},
    "2 workers, pool 10+1, each loads MLflow": {
        "MLFLOW_WORKERS": "2",
        "MLFLOW_PRELOAD": "false",
        **_SMALL_POOL,
    },
}
"""Settings of a server. Pools are of database connections, kept + additional; 5+10 is SQLAlchemy's
default."""


@dataclass(frozen=True)
class TrackingRound:
    """Measurements of a tracking server in a round."""

    start: float
    """Seconds to the first answer on /health, on an empty database."""
    memory: float
    """PSS in 10^6 bytes, after tracking calls by one client."""
    memory_after: float
    """The same after many clients."""
    processes: float
    call: float
    """The median of reading a new run on an open connection, in milliseconds."""
    large_call: float
    """The same for a run with 25 params, metrics and tags."""
    write: float
    """The same for logging a metric."""
    reads: float
    """Answers in a second, to many clients that read a run."""
    slow_reads: float
    """The 99th percentile of the same, in seconds."""
    cost: float
    """Milliseconds of CPU time that the server took for one of these answers."""
    writes: float
    """Answers in a second, to many clients that log a metric."""
    errors: float
    """Errors of reads and writes together."""
    client_share: float
    """CPU time of the many clients while they read, as a share of one core."""


def measure(watch: Stopwatch, parts: Sequence[str], repeat: int) -> list[Figure]:
    """Measure the images as they were built last.

    Args:
        watch: keeps the samples.
        parts: of `PARTS`.
        repeat: how many rounds there are.

    Raises:
        UserError: an image or a service is not there, or a server did not start.
    """
    known = catalogue.load()
    references = {name: known.variants[name].reference for name in (BASELINE, *VARIANTS)}
    figures: list[Figure] = []
    if "size" in parts:
        bars = {references[name]: share for name, share in SIZE_SHARES.items()}
        figures += size.measure(watch, references[BASELINE], bars)
    if {"serving", "settings"} & set(parts):
        with services_session() as (client, session, services):
            bench = TrackingBench(client, session, services.start(), known)
            figures += _serving(watch, bench, references, parts, repeat)
    return figures


def _serving(
    watch: Stopwatch,
    bench: TrackingBench,
    references: Mapping[str, str],
    parts: Sequence[str],
    repeat: int,
) -> list[Figure]:
    plain = Candidate(BASELINE, references[BASELINE], ("mlflow", "server", "--host", "0.0.0.0"))
    others: list[Candidate] = []
    if "serving" in parts:
        others += [Candidate(name, references[name], ("server",)) for name in VARIANTS]
    if "settings" in parts:
        tuned = Candidate(TUNED, references[TUNED], ("server",))
        others += [
            replace(tuned, name=f"{TUNED}, {name}", environment=variables)
            for name, variables in SETTINGS.items()
        ]
    rounds: dict[str, list[TrackingRound]] = defaultdict(list)
    for _ in range(repeat):
        for candidate in (plain, *others):
            rounds[candidate.name].append(bench.try_out(watch, candidate))
    results = {name: medians_of(found) for name, found in rounds.items()}
    baseline = results.pop(BASELINE)
    figures = [
        figure for name, found in results.items() for figure in compare(name, found, baseline)
    ]
    if "serving" in parts:
        calls = {name: results[name].call for name in VARIANTS}
        figures += bench.floors(watch, references, calls, repeat)
    return figures


def compare(name: str, found: TrackingRound, baseline: TrackingRound) -> Iterator[Figure]:
    """Compare a server's measurements with the baseline's, with the bars."""

    def share(
        label: str, unit: str, value: float, against: float, bar: Bar | None, note: str = ""
    ) -> Figure:
        return share_figure(f"{name}: {label}", unit, value, AGAINST, against, bar, note)

    yield share("first /health", SECONDS, found.start, baseline.start, Bar(share=0.4))
    yield share(
        "memory (PSS)",
        size.MEGABYTES,
        found.memory,
        baseline.memory,
        Bar(share=0.3),
        f"{found.processes:.0f} processes against {baseline.processes:.0f}",
    )
    yield share(
        f"memory after {CLIENTS} clients",
        size.MEGABYTES,
        found.memory_after,
        baseline.memory_after,
        Bar(share=0.3),
    )
    yield share("runs/get, p50", "ms", found.call, baseline.call, Bar(share=0.2))
    yield share("log-metric, p50", "ms", found.write, baseline.write, None)
    yield share(
        "runs/get of a large run, p50",
        "ms",
        found.large_call,
        baseline.large_call,
        None,
        "upstream delays small answers only, not those of several packets",
    )
    yield share(
        f"runs/get by {CLIENTS} clients",
        "1/s",
        found.reads,
        baseline.reads,
        Bar(least_share=1.0),
        f"p99 {found.slow_reads:.2f} s against {baseline.slow_reads:.2f} s; the clients took"
        f" {found.client_share:.0%} of a core ({baseline.client_share:.0%})",
    )
    yield share(f"log-metric by {CLIENTS} clients", "1/s", found.writes, baseline.writes, None)
    yield share(
        f"errors of {CLIENTS} clients", "of all", found.errors, baseline.errors, Bar(value=0)
    )


def medians_of(rounds: Sequence[TrackingRound]) -> TrackingRound:
    """Take the median of each measure, and the sum of the errors."""
    return TrackingRound(**medians(rounds, summed=("errors",)))


@dataclass(frozen=True)
class TrackingBench:
    """Services that every measured server uses."""

    client: DockerClient
    session: Session
    services: Services
    known: Catalogue

    def try_out(self, watch: Stopwatch, candidate: Candidate) -> TrackingRound:
        """Start a server on new stores, measure it and remove it.

        Raises:
            UserError: it did not start, or an answer to a single client was not 200.
        """
        store = f"bench-{time.monotonic_ns()}"
        self.services.of(PostgreSQL).create(store)
        self.services.of(MinIO).create(store)
        configured = replace(
            candidate,
            command=(*candidate.command, "--artifacts-destination", f"s3://{store}"),
            environment={
                "MLFLOW_BACKEND_STORE_URI": self.services.of(PostgreSQL).url(store),
                **self.services.of(MinIO).server_environment(),
                "MLFLOW_DISABLE_TELEMETRY": "true",
                **candidate.environment,
            },
        )
        with Running.created(self.client, self.session, configured) as running:
            return self._try_out(watch, candidate.name, running)

    def _try_out(self, watch: Stopwatch, name: str, running: Running) -> TrackingRound:
        own = self._processor_seconds(running)
        with watch.measure(f"{name}: first /health", containers=True, own=own) as detail:
            detail["seconds"] = start = running.start()
            # A tag may move between two rounds.
            detail["image"] = running.container.attrs["Image"]
        base = running.base
        run = create_run(base)
        read = Call(READ.format(run))
        # Each to a run of its own: writers of one run would wait for each other in the database.
        writes = [log_metric(create_run(base)) for _ in range(WRITTEN_RUNS)]
        large = Call(READ.format(fill(base, create_run(base))))
        time.sleep(SETTLE_SECONDS)
        singles = []
        for label, call in (("read", read), ("read much", large), ("log", writes[0])):
            with watch.measure(f"{name}: one client, {label}", containers=True, own=own) as detail:
                detail["milliseconds"] = took = load.one_after_the_other(
                    running.address, PORT, call, warm=WARM, count=COUNT
                )
            singles.append(took)
        memory, processes = running.memory()
        # Every process of a server has its first request only once it is asked by several.
        load.many_at_once(base, [read], clients=20, requests=200)
        loads, costs = [], []
        for action, calls, count in (("read", [read], READS), ("log", writes, WRITES)):
            label = f"{name}: {CLIENTS} clients {action}"
            with watch.measure(label, containers=True, own=own) as detail:
                before = processor_seconds(running.container)
                result = load.many_at_once(base, calls, clients=CLIENTS, requests=count)
                cost = (processor_seconds(running.container) - before) / count * 1000
                detail |= {**vars(result), "processor_milliseconds": cost}
            loads.append(result)
            costs.append(cost)
        reading, writing = loads
        return TrackingRound(
            start=start,
            memory=memory,
            memory_after=running.memory()[0],
            processes=processes,
            call=singles[0],
            large_call=singles[1],
            write=singles[2],
            reads=reading.rate,
            slow_reads=reading.slowest_percent,
            cost=costs[0],
            writes=writing.rate,
            errors=sum(sum(result.errors.values()) for result in loads),
            client_share=reading.client_share,
        )

    def floors(
        self,
        watch: Stopwatch,
        references: Mapping[str, str],
        calls: Mapping[str, float],
        repeat: int,
    ) -> list[Figure]:
        """Measure lower bounds of a tracking call.

        Args:
            watch: keeps the samples.
            references: of the images.
            calls: the measured tracking call of each variant, in milliseconds.
            repeat: how many rounds there are.

        Raises:
            UserError: an image can't run the bare handler.
        """
        alone = self._sql_alone(watch)
        figures = []
        for name, call in calls.items():
            contract = load_contract(self.known.variants[name].contract)
            bare = floor.handler(references[name], contract.start.interpreter)
            pairs = [self._bare(watch, bare) for _ in range(repeat)]
            answer, rate = (median(column) for column in zip(*pairs, strict=True))
            for bound, value in (
                (f"bare uvicorn, {rate:.0f} answers/s to {CLIENTS} clients", answer),
                ("the same call's SQL alone", alone),
            ):
                figures.append(share_figure(f"{name}: runs/get, p50", "ms", call, bound, value))
        return figures

    def _bare(self, watch: Stopwatch, candidate: Candidate) -> tuple[float, float]:
        """Measure an answer in milliseconds, and answers per second to many clients."""
        with Running.created(self.client, self.session, candidate) as running:
            own = self._processor_seconds(running)
            running.start()
            with watch.measure(candidate.name, containers=True, own=own) as detail:
                answer = load.one_after_the_other(
                    running.address, PORT, Call("/"), warm=WARM, count=COUNT
                )
                result = load.many_at_once(
                    running.base, [Call("/")], clients=CLIENTS, requests=READS
                )
                detail |= {"milliseconds": answer, **vars(result)}
        return answer, result.rate

    def _sql_alone(self, watch: Stopwatch) -> float:
        """Measure the SQL of a call in milliseconds, in the database of a measured server."""
        with self.services.of(PostgreSQL).connect() as database:
            names = database.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE 'bench-%'"
            ).fetchall()
        name = names[0][0]
        with self.services.of(PostgreSQL).connect(name) as database:
            [(run,)] = database.execute("SELECT run_uuid FROM runs LIMIT 1").fetchall()
            host = f"{database.info.host}:{database.info.port}"
            address = self.services.of(PostgreSQL).address
            url = f"postgresql+psycopg://{address.user}:{address.password}@{host}/{name}"
            recorded = floor.statements(url, run)
            with watch.measure("the SQL of runs/get alone", containers=True) as detail:
                detail["milliseconds"] = found = floor.replay(
                    database, recorded, warm=WARM, count=COUNT
                )
                detail["statements"] = len(recorded)
        return found

    def _processor_seconds(self, running: Running) -> Callable[[], float]:
        """Read the CPU time of this process, the services and `running`, in seconds."""

        def used() -> float:
            services = self.client.containers.list(
                filters={"label": f"{SESSION_LABEL}={self.session.id}"}
            )
            containers = {str(found.id): found for found in (running.container, *services)}
            return time.process_time() + sum(map(processor_seconds, containers.values()))

        return used


def post(base: str, endpoint: str, body: Mapping[str, object]) -> Any:  # noqa: ANN401 - JSON
    """Send a POST to MLflow's REST API and return the answer.

    Raises:
        UserError: it is not answered with 200.
    """
    address = f"{base}/api/2.0/mlflow/{endpoint}"
    try:
        answer = requests.post(address, json=body, headers=load.HEADERS, timeout=load.TIME_LIMIT)
    except requests.RequestException as error:
        raise UserError(f"{endpoint} was not answered: {error}") from error
    if not answer.ok:
        raise UserError(f"{endpoint} was answered with {answer.status_code}: {answer.text[:200]}")
    return answer.json()


def create_run(base: str) -> str:
    """Create a run with the tags of a training, and return its id."""
    names = ("mlflow.user", "mlflow.source.name", "mlflow.source.type")
    tags = [{"key": name, "value": "sea"} for name in names]
    made = post(base, "runs/create", {"experiment_id": "0", "tags": tags})
    return str(made["run"]["info"]["run_id"])


def log_metric(run: str) -> Call:
    """Make a request that logs a metric to a run."""
    body = {"run_id": run, "key": "logged", "value": 0.5, "timestamp": 1000, "step": 1}
    return Call("/api/2.0/mlflow/runs/log-metric", body)


def fill(base: str, run: str) -> str:
    """Log the params, metrics and tags of a training to a run, and return its id."""
    post(
        base,
        "runs/log-batch",
        {
            "run_id": run,
            "params": [{"key": f"param-{number}", "value": "7"} for number in range(10)],
            "tags": [{"key": f"tag-{number}", "value": "sea"} for number in range(5)],
            "metrics": [
                {"key": f"metric-{number}", "value": 0.5, "timestamp": 1000, "step": 0}
                for number in range(10)
            ],
        },
    )
    return run
