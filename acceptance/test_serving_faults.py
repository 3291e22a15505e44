"""Models' servers under hung predictions, exhausted memory, huge inputs and too many requests."""

from __future__ import annotations

import io
import json
import signal
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pyarrow as pa
import pytest
import requests
from pyarrow import parquet

from seatrial.engine.ports import LOOPBACK
from seatrial.stack.run_container import run_in_container

from .predictions import assert_answered, assert_predicts
from .serving import (
    AT_ONCE,
    CONCURRENCY,
    JSON,
    REQUEST_TIMEOUT,
    SCRIPTED,
    at_once,
    with_parameters,
)
from .workers import clients_shifting, is_stopped, let_workers_load, signal_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.model_server import ModelServer

    from .serving import ServedSample, StartServer

TIME_LIMIT = 3
"""Seconds that a prediction may take here, natively."""
FOR_EVER = 3600.0
"""Seconds."""
MANY = 32
"""Requests: more than any server here answers at a time."""
MIB = 1 << 20


def _limited(image: ImageUnderTest) -> dict[str, str]:
    """Variables of a short time limit, and of few requests at a time where that can be set."""
    return {REQUEST_TIMEOUT: str(TIME_LIMIT * image.scale), CONCURRENCY: "2"}


@pytest.fixture
def recovery_limit(promised_number: int, image: ImageUnderTest) -> float:
    """Seconds until a worker has been replaced."""
    return (TIME_LIMIT + promised_number) * image.scale


def _is_answered(server: ModelServer) -> bool:
    """Tell whether a prediction is answered in the time that it may take."""
    limit = TIME_LIMIT * server.image.scale
    headers = {"Content-Type": JSON}
    try:
        answer = requests.post(
            f"{server.url}/invocations", SCRIPTED.body, headers=headers, timeout=limit
        )
    except requests.RequestException:
        return False
    return answer.status_code == HTTPStatus.OK


def _assert_recovers(server: ModelServer, deadline: float, fault: str) -> None:
    """Require answers before `deadline`, and a 200 on /ping no earlier than answers."""
    while True:
        with suppress(requests.RequestException):
            pinged = server.get("/ping").status_code
            answered = _is_answered(server)
            if pinged == HTTPStatus.OK:
                assert answered, f"{fault}, and /ping says 200 though no prediction is answered"
                break
        assert time.monotonic() < deadline, (
            f"{fault}, and the server doesn't answer predictions again within its time"
        )
        time.sleep(0.2)
    for answer in at_once(server, SCRIPTED):
        assert_answered(answer, SCRIPTED.predictions, server.image, f"{fault}: afterwards")


@pytest.mark.promise("serving.recovers_from_hangs")
@pytest.mark.parametrize("hang", ["pause", "hold"])
def test_hung_predictions_are_ended(
    serve_scriptable: StartServer, recovery_limit: float, hang: str, image: ImageUnderTest
) -> None:
    """Predictions that wait, or that keep Python's lock, take all of every worker."""
    server = serve_scriptable(variables=_limited(image))
    with ThreadPoolExecutor(MANY) as pool:
        for _ in range(MANY):
            pool.submit(server.ask, with_parameters(**{hang: FOR_EVER}))
        begun = time.monotonic()
        # No server can know that they hang before their time is over.
        time.sleep((TIME_LIMIT + 1) * image.scale)
        _assert_recovers(server, begun + recovery_limit, f"{MANY} predictions hang ({hang})")


@pytest.mark.promise("serving.recovers_from_hangs")
def test_hung_prediction_costs_no_other(
    serve_scriptable: StartServer, recovery_limit: float, image: ImageUnderTest
) -> None:
    """The worker's other predictions are answered, and so are those that come later."""
    server = serve_scriptable(variables={REQUEST_TIMEOUT: str(TIME_LIMIT * image.scale)})
    with clients_shifting(server, 4):
        begun = time.monotonic()
        answer = server.ask(with_parameters(pause=FOR_EVER))
        took = time.monotonic() - begun
        assert answer.status_code == HTTPStatus.GATEWAY_TIMEOUT, (
            f"a prediction that hangs is answered with {answer.status_code} instead of 504:"
            f" {answer.text[:200]}"
        )
        assert took < recovery_limit, (
            f"a prediction that hangs is answered after {took:.1f} s; {recovery_limit:.1f} s are"
            " allowed"
        )
        time.sleep(max(0.0, begun + recovery_limit - time.monotonic()))


@pytest.mark.promise("serving.recovers_from_hangs")
def test_prediction_may_keep_the_lock(serve_scriptable: StartServer, image: ImageUnderTest) -> None:
    """A worker that computes until shortly before the time limit has not hung."""
    limit = 2 * TIME_LIMIT * image.scale
    server = serve_scriptable(variables={REQUEST_TIMEOUT: str(limit)})
    answer = server.ask(with_parameters(hold=0.7 * limit))
    assert_answered(answer, SCRIPTED.predictions, image, "a prediction that keeps Python's lock")


@pytest.mark.promise("serving.recovers_from_hangs")
@pytest.mark.parametrize("workers", ["one", "all"])
def test_worker_that_is_stopped_is_replaced(
    serve_scriptable: StartServer, recovery_limit: float, workers: str, image: ImageUnderTest
) -> None:
    server = serve_scriptable(variables=_limited(image))
    let_workers_load(server)

    times = image.workers if workers == "all" else 1
    stopped = [signal_worker(server, signal.SIGSTOP) for _ in range(times)]
    deadline = time.monotonic() + recovery_limit

    time.sleep(1.0 * image.scale)
    fault = "a worker was stopped" if workers == "one" else "all workers were stopped"
    _assert_recovers(server, deadline, fault)
    while any(is_stopped(server, process) for process in stopped):
        assert time.monotonic() < deadline, (
            f"{fault}, and of the processes {', '.join(stopped)} one is still there, stopped"
        )
        time.sleep(0.2)


COUNT = """
from pathlib import Path

file = Path("/tmp/seatrial-eaten")
print(file.stat().st_size if file.exists() else 0)
"""


@pytest.mark.promise("serving.survives_memory")
@pytest.mark.parametrize("neighbours", [0, 4])
def test_greedy_prediction_ends_one_worker(
    serve_scriptable: StartServer, neighbours: int, image: ImageUnderTest
) -> None:
    """The prediction ends no second worker, alone or among others, which are answered."""
    variables = {REQUEST_TIMEOUT: str(45 * image.scale)}
    server = serve_scriptable(variables=variables, memory=1536 * MIB)
    with ExitStack() as meanwhile:
        if neighbours:
            meanwhile.enter_context(clients_shifting(server, neighbours))
        try:
            answer = server.ask(with_parameters(eat=float(8 << 30)))
        except requests.RequestException as error:
            pytest.fail(f"a prediction that takes all memory gets no answer: {error}")
        assert answer.status_code >= HTTPStatus.BAD_REQUEST, (
            f"a prediction that takes more memory than there is gets {answer.status_code}:"
            f" {answer.text[:200]}"
        )
        over = answer.status_code == HTTPStatus.GATEWAY_TIMEOUT
        assert not over, "a prediction that takes all memory is tried until its time is over"
    assert_predicts(server, SCRIPTED, "after a prediction that took all memory")
    counted = run_in_container(server.container, image.contract.start.interpreter, "-c", COUNT)
    assert counted.code == 0, f"the workers' marks in the container can't be read: {counted}"
    tries = int(counted.output.split()[-1])
    assert tries == 1, f"{tries} workers got the request that takes all memory"


def _parquet(table: pa.Table, times: int = 1, **options: Any) -> bytes:
    """Write a table several times into a file."""
    buffer = io.BytesIO()
    with parquet.ParquetWriter(buffer, table.schema, **options) as writer:
        for _ in range(times):
            writer.write_table(table, row_group_size=len(table))
    return buffer.getvalue()


def _repeated(value: object, times: int) -> pa.Table:
    return pa.table({"x": pa.repeat(value, times)})


PARQUET = "application/vnd.apache.parquet"
BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a number, repeated": (PARQUET, lambda: _parquet(_repeated(1.5, 10_000_000), 40)),
    "zeros, compressed": (
        PARQUET,
        lambda: _parquet(_repeated(0.0, 10_000_000), 40, use_dictionary=False, compression="zstd"),
    ),
    "a text, repeated": (PARQUET, lambda: _parquet(_repeated("x" * 100_000, 2_000), 20)),
    "a list, repeated": (
        PARQUET,
        lambda: _parquet(pa.table({"x": pa.repeat(pa.scalar([1.5] * 1000), 10_000)}), 40),
    ),
    "records of other columns each": (
        JSON,
        lambda: json.dumps(
            {"dataframe_records": [{f"c{number}": 1} for number in range(25_000)]}
        ).encode(),
    ),
    "short lines below a wide one": (
        "text/csv",
        lambda: b",".join(b"c%d" % number for number in range(20_000)) + b"\n1" * 30_000,
    ),
}
"""Content type and body of inputs that unpack to 3 GB and more."""


@pytest.mark.promise("serving.limits_unpacking")
@pytest.mark.parametrize("name", BOMBS)
def test_what_unpacks_to_gigabytes_is_refused(
    serve_sample: StartServer, sample: ServedSample, name: str
) -> None:
    """The container hasn't got the memory for the input."""
    server = serve_sample(memory=1536 * MIB)
    content_type, make = BOMBS[name]
    body = make()
    try:
        answer = server.ask(body, content_type)
    except requests.RequestException as error:
        pytest.fail(f"{len(body)} bytes that unpack to gigabytes ({name}) get no answer: {error}")
    shown = f"{answer.status_code} {answer.text[:300]}"
    assert HTTPStatus.BAD_REQUEST <= answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR, (
        f"{len(body)} bytes that unpack to gigabytes ({name}), where 4xx is due, get {shown}"
    )
    assert_predicts(server, sample.payload, "after bytes that unpack to gigabytes")


CLIENTS, ANSWER, BOUND = 48, 32 * MIB, 768 * MIB
"""Clients that don't read, bytes of the answer to each, and bytes that all may cost together."""


@pytest.mark.promise("serving.bounds_slow_readers")
def test_unread_answers_take_bounded_memory(
    serve_scriptable: StartServer, image: ImageUnderTest
) -> None:
    server = serve_scriptable()
    assert_predicts(server, SCRIPTED)
    before = _memory(server)
    body = with_parameters(length=float(ANSWER)).encode()
    head = (
        "POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    address = (LOOPBACK, int(server.url.rpartition(":")[2]))
    most = 0
    with ExitStack() as clients:
        for _ in range(CLIENTS):
            client = clients.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.settimeout(10 * image.scale)
            client.connect(address)
            client.sendall(head + body)
            with suppress(TimeoutError):
                # Read the beginning of the answer, and no more.
                client.recv(16)
            most = max(most, _memory(server) - before)
        assert most < BOUND, (
            f"{CLIENTS} clients that don't read their answers of {ANSWER} bytes cost the server"
            f" {most} bytes of memory; {BOUND} are allowed"
        )
        assert_predicts(server, SCRIPTED, "while others don't read")


def _memory(server: ModelServer) -> int:
    """Read the bytes of the container's memory, without files that are cached."""
    reported = cast("dict[str, Any]", server.container.stats(stream=False, one_shot=True))
    stats = reported["memory_stats"]
    cached = stats["stats"].get("inactive_file", stats["stats"].get("total_inactive_file", 0))
    return int(stats["usage"]) - int(cached)


class _TimedStatus(NamedTuple):
    """An answer's status, and how long it took."""

    status: int
    seconds: float
    retry_after: str | None


PAUSE = 1.0
"""Seconds that a prediction takes here, natively."""
BUSY = 10.0
"""Seconds of too many requests, natively."""
CROWD = 48
"""Clients: three times as many as the largest server here answers at a time, and more."""


def _ask(server: ModelServer, pause: float) -> _TimedStatus:
    begun = time.monotonic()
    answer = server.ask(with_parameters(pause=pause))
    took = time.monotonic() - begun
    return _TimedStatus(answer.status_code, took, answer.headers.get("Retry-After"))


@pytest.mark.promise("serving.sheds_load")
def test_too_many_requests_are_turned_away(
    serve_scriptable: StartServer, image: ImageUnderTest
) -> None:
    """503 comes at once; the others and /ping are answered in twice the time of one alone."""
    server = serve_scriptable(variables={CONCURRENCY: "2"})
    let_workers_load(server)
    pause = PAUSE * image.scale
    alone = max(_ask(server, pause).seconds for _ in range(3))
    over = time.monotonic() + BUSY * image.scale

    def ask_until_over() -> list[_TimedStatus]:
        asked = []
        while time.monotonic() < over:
            asked.append(_ask(server, pause))
            if asked[-1].status != HTTPStatus.OK:
                time.sleep(pause / 2)
        return asked

    pings = []
    with ThreadPoolExecutor(CROWD) as pool:
        asking = [pool.submit(ask_until_over) for _ in range(CROWD)]
        while time.monotonic() < over:
            begun = time.monotonic()
            status = server.get("/ping").status_code
            assert status == HTTPStatus.OK, (
                f"/ping is answered with {status} while {CROWD} clients ask for predictions"
            )
            pings.append(time.monotonic() - begun)
            time.sleep(0.1)
        asked = [answer for client in asking for answer in client.result()]
    accepted = [answer for answer in asked if answer.status == HTTPStatus.OK]
    refused = [answer for answer in asked if answer.status == HTTPStatus.SERVICE_UNAVAILABLE]
    others = {answer.status for answer in asked} - {HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE}
    assert not others, f"of {CROWD} clients at a time, some get {others}, neither 200 nor 503"
    assert refused, f"{CROWD} clients ask at a time, and the server turns none away with 503"
    bare = [answer for answer in refused if not answer.retry_after]
    assert not bare, f"{len(bare)} of {len(refused)} answers 503 are without Retry-After"
    turned = statistics.median(answer.seconds for answer in refused)
    assert turned < pause / 2, (
        f"{CROWD} clients ask at a time, and a 503 takes {turned:.2f} s; {pause / 2:.2f} s are"
        " allowed"
    )
    # The median, because the clients take their share of the machine as well.
    usual = statistics.median(answer.seconds for answer in accepted)
    assert usual < 2 * alone + pause / 2, (
        f"{CROWD} clients ask at a time, and requests that are let in take {usual:.2f} s;"
        f" without others they take {alone:.2f} s"
    )
    pinged = statistics.median(pings)
    assert pinged < pause / 2, (
        f"{CROWD} clients ask at a time, and /ping takes {pinged:.2f} s; {pause / 2:.2f} s are"
        " allowed"
    )


@pytest.mark.promise("serving.sheds_load")
def test_burst_is_answered(sample_server: ModelServer, sample: ServedSample) -> None:
    """Eight clients at once are no overload."""
    for _ in range(5):
        for answer in at_once(sample_server, sample.payload):
            case = f"one of {AT_ONCE} requests at a time"
            assert_answered(answer, sample.payload.predictions, sample_server.image, case)
