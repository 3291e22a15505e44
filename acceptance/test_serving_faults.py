"""Models' servers under what hangs, takes all memory, unpacks to gigabytes, or comes too often."""

from __future__ import annotations

import io
import itertools
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

from seatrial.stack.oneoff import run_in_container
from seatrial.stack.services import LOOPBACK

from .predictions import assert_answered
from .serving import (
    AT_ONCE,
    SCRIPTED_ANSWER,
    any_payload,
    at_once,
    scriptable,
    scripted,
    with_parameters,
)
from .workers import asking_on, is_stopped, signal_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from seatrial.contract import Promise
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.model_server import ModelServer
    from seatrial.trial.fixtures import StartServing
    from seatrial.trial.model_serving import Serving

CONCURRENCY = "MLFLOW_MODELS_CONCURRENCY"
REQUEST_TIMEOUT = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
TIME_LIMIT = 3
"""Seconds that a prediction may take here, natively."""
FOR_EVER = 3600.0
"""Seconds."""
MANY = 32
"""Requests: more than any server here answers at a time."""
MIB = 1 << 20


def _limited(image: ImageUnderTest) -> dict[str, str]:
    """A short time limit, and few requests at a time where that can be set."""
    return {REQUEST_TIMEOUT: str(TIME_LIMIT * image.scale), CONCURRENCY: "2"}


def _seconds(promised: Promise, image: ImageUnderTest) -> float:
    """Until a worker has been replaced."""
    return (TIME_LIMIT + int(str(promised.value))) * image.scale


def _is_answered(server: ModelServer, image: ImageUnderTest) -> bool:
    """Whether a prediction is, in the time that it may take."""
    limit = TIME_LIMIT * image.scale
    headers = {"Content-Type": "application/json"}
    try:
        answer = requests.post(
            f"{server.url}/invocations", with_parameters(), headers=headers, timeout=limit
        )
    except requests.RequestException:
        return False
    return answer.status_code == HTTPStatus.OK


def _assert_recovers(
    server: ModelServer, image: ImageUnderTest, deadline: float, what: str
) -> None:
    """It answers again before `deadline`, and /ping says 200 no earlier."""
    while True:
        with suppress(requests.RequestException):
            pinged = server.get("/ping").status_code
            answered = _is_answered(server, image)
            if pinged == HTTPStatus.OK:
                assert answered, f"{what}: /ping says 200, and no prediction is answered"
                break
        assert time.monotonic() < deadline, f"{what}: it doesn't recover"
        time.sleep(0.2)
    for answer in at_once(server, with_parameters()):
        assert_answered(answer, SCRIPTED_ANSWER, image, f"{what}: afterwards")


@pytest.mark.promise("serving.recovers_from_hangs")
@pytest.mark.parametrize("how", ["pause", "hold"])
def test_hung_predictions_are_ended(
    serving: Serving, serve: StartServing, promised: Promise, how: str, image: ImageUnderTest
) -> None:
    """In every worker and all that it does at a time: they wait, or keep Python's lock."""
    server = serve(scriptable(serving), variables=_limited(image))
    with ThreadPoolExecutor(MANY) as pool:
        for _ in range(MANY):
            pool.submit(server.ask, with_parameters(**{how: FOR_EVER}))
        begun = time.monotonic()
        # Nobody can know before their time is over.
        time.sleep((TIME_LIMIT + 1) * image.scale)
        deadline = begun + _seconds(promised, image)
        _assert_recovers(server, image, deadline, f"{MANY} predictions hang ({how})")


@pytest.mark.promise("serving.recovers_from_hangs")
def test_hung_prediction_costs_no_other(
    serving: Serving, serve: StartServing, promised: Promise, image: ImageUnderTest
) -> None:
    """Neither one that its worker makes meanwhile, nor one that comes later."""
    variables = {REQUEST_TIMEOUT: str(TIME_LIMIT * image.scale)}
    server = serve(scriptable(serving), variables=variables)
    shifts = map(float, itertools.count())

    def other() -> tuple[str, str, object]:
        shift = next(shifts)
        body = with_parameters(pause=0.05 * image.scale, shift=shift)
        return body, "application/json", scripted(2.0, shift)

    with asking_on(server, image, 4, other):
        begun = time.monotonic()
        answer = server.ask(with_parameters(pause=FOR_EVER))
        took = time.monotonic() - begun
        assert answer.status_code == HTTPStatus.GATEWAY_TIMEOUT, f"it hangs: {answer.status_code}"
        assert took < _seconds(promised, image), f"a prediction hangs for {took:.1f} s"
        time.sleep(max(0.0, begun + _seconds(promised, image) - time.monotonic()))


@pytest.mark.promise("serving.recovers_from_hangs")
def test_prediction_may_keep_the_lock(
    serving: Serving, serve: StartServing, image: ImageUnderTest
) -> None:
    """For as long as it may take: a worker that computes has not hung."""
    limit = 2 * TIME_LIMIT * image.scale
    server = serve(scriptable(serving), variables={REQUEST_TIMEOUT: str(limit)})
    answer = server.ask(with_parameters(hold=0.7 * limit))
    assert_answered(answer, SCRIPTED_ANSWER, image, "a prediction that keeps Python's lock")


@pytest.mark.promise("serving.recovers_from_hangs")
@pytest.mark.parametrize("which", ["one", "all"])
def test_worker_that_is_stopped_is_replaced(
    serving: Serving, serve: StartServing, promised: Promise, which: str, image: ImageUnderTest
) -> None:
    server = serve(scriptable(serving), variables=_limited(image))
    # Those that answer: where /ping says 200 for the first of them, the others load.
    time.sleep(1.0 * image.scale)
    times = image.workers if which == "all" else 1
    stopped = [signal_worker(server, image, signal.SIGSTOP) for _ in range(times)]
    deadline = time.monotonic() + _seconds(promised, image)
    time.sleep(1.0 * image.scale)
    what = f"{which} of its workers is stopped"
    _assert_recovers(server, image, deadline, what)
    while any(is_stopped(server, image, process) for process in stopped):
        assert time.monotonic() < deadline, f"{what}: it is still there"
        time.sleep(0.2)


COUNT = """
from pathlib import Path

file = Path("/tmp/seatrial-eaten")
print(file.stat().st_size if file.exists() else 0)
"""


@pytest.mark.promise("serving.survives_memory")
@pytest.mark.parametrize("neighbours", [0, 4])
def test_greedy_prediction_ends_one_worker(
    serving: Serving, serve: StartServing, neighbours: int, image: ImageUnderTest
) -> None:
    """At most: alone, or among others, which are answered."""
    variables = {REQUEST_TIMEOUT: str(45 * image.scale)}
    server = serve(scriptable(serving), variables=variables, memory=1536 * MIB)
    shifts = map(float, itertools.count())

    def other() -> tuple[str, str, object]:
        shift = next(shifts)
        body = with_parameters(pause=0.05 * image.scale, shift=shift)
        return body, "application/json", scripted(2.0, shift)

    with ExitStack() as meanwhile:
        if neighbours:
            meanwhile.enter_context(asking_on(server, image, neighbours, other))
        try:
            answer = server.ask(with_parameters(eat=float(8 << 30)))
        except requests.RequestException as error:
            pytest.fail(f"a prediction that takes all memory gets no answer: {error}")
        assert answer.status_code >= HTTPStatus.BAD_REQUEST, answer.text[:200]
        over = answer.status_code == HTTPStatus.GATEWAY_TIMEOUT
        assert not over, "a prediction that takes all memory is tried until its time is over"
    assert_answered(server.ask(with_parameters()), SCRIPTED_ANSWER, image, "afterwards")
    counted = run_in_container(server.container, image.contract.start.interpreter, "-c", COUNT)
    assert counted.code == 0, f"the marks can't be counted: {counted}"
    tries = int(counted.output.split()[-1])
    assert tries == 1, f"{tries} workers got the request that takes all memory"


def _parquet(table: pa.Table, times: int = 1, **options: Any) -> bytes:
    """A file with a table, written several times into it."""
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
        "application/json",
        lambda: json.dumps(
            {"dataframe_records": [{f"c{number}": 1} for number in range(25_000)]}
        ).encode(),
    ),
    "short lines below a wide one": (
        "text/csv",
        lambda: b",".join(b"c%d" % number for number in range(20_000)) + b"\n1" * 30_000,
    ),
}
"""Bodies that unpack to 3 GB and more, by what they hold, with their content types."""


@pytest.mark.promise("serving.limits_unpacking")
@pytest.mark.parametrize("name", BOMBS)
def test_what_unpacks_to_gigabytes_is_refused(
    serving: Serving, serve: StartServing, name: str, image: ImageUnderTest
) -> None:
    """In a container that hasn't got the memory for it."""
    kind, payload = any_payload(serving)
    server = serve(kind, memory=1536 * MIB)
    content_type, make = BOMBS[name]
    body = make()
    try:
        answer = server.ask(body, content_type)
    except requests.RequestException as error:
        pytest.fail(f"{len(body)} bytes of Parquet that unpack to gigabytes: no answer: {error}")
    shown = f"{answer.status_code} {answer.text[:300]}"
    assert HTTPStatus.BAD_REQUEST <= answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR, (
        f"{name}, {len(body)} bytes: 4xx is due: {shown}"
    )
    answer = server.ask(payload.body, payload.content_type)
    assert_answered(answer, payload.predictions, image, "afterwards")


CLIENTS, ANSWER, BOUND = 48, 32 * MIB, 768 * MIB
"""Clients that don't read, the answer that each asks for, and what they may cost together."""


@pytest.mark.promise("serving.bounds_slow_readers")
def test_unread_answers_take_bounded_memory(
    serving: Serving, serve: StartServing, image: ImageUnderTest
) -> None:
    kind = scriptable(serving)
    server = serve(kind)
    assert_answered(server.ask(with_parameters()), SCRIPTED_ANSWER, image)
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
                # The beginning of its answer, and no more.
                client.recv(16)
            most = max(most, _memory(server) - before)
        assert most < BOUND, (
            f"{CLIENTS} clients that don't read {ANSWER} bytes each cost {most} bytes"
        )
        answer = server.ask(with_parameters())
        assert_answered(answer, SCRIPTED_ANSWER, image, "while others don't read")


def _memory(server: ModelServer) -> int:
    """Bytes of the container's memory, without files that are cached."""
    reported = cast("dict[str, Any]", server.container.stats(stream=False, one_shot=True))
    stats = reported["memory_stats"]
    cached = stats["stats"].get("inactive_file", stats["stats"].get("total_inactive_file", 0))
    return int(stats["usage"]) - int(cached)


class _Asked(NamedTuple):
    """How a request went."""

    status: int
    seconds: float
    retry_after: str | None


PAUSE = 1.0
"""Seconds that a prediction takes here, natively."""
BUSY = 10.0
"""Seconds of too many requests, natively."""
CROWD = 48
"""Clients: three times as many as the largest server here answers at a time, and more."""


def _ask(server: ModelServer, pause: float) -> _Asked:
    begun = time.monotonic()
    answer = server.ask(with_parameters(pause=pause))
    took = time.monotonic() - begun
    return _Asked(answer.status_code, took, answer.headers.get("Retry-After"))


@pytest.mark.promise("serving.sheds_load")
def test_too_many_requests_are_turned_away(
    serving: Serving, serve: StartServing, image: ImageUnderTest
) -> None:
    """At once; the others are answered in twice the time of one alone, and so is /ping."""
    server = serve(scriptable(serving), variables={CONCURRENCY: "2"})
    time.sleep(1.0 * image.scale)
    pause = PAUSE * image.scale
    alone = max(_ask(server, pause).seconds for _ in range(3))
    over = time.monotonic() + BUSY * image.scale

    def ask_on() -> list[_Asked]:
        asked = []
        while time.monotonic() < over:
            asked.append(_ask(server, pause))
            if asked[-1].status != HTTPStatus.OK:
                time.sleep(pause / 2)
        return asked

    pings = []
    with ThreadPoolExecutor(CROWD) as pool:
        asking = [pool.submit(ask_on) for _ in range(CROWD)]
        while time.monotonic() < over:
            begun = time.monotonic()
            assert server.get("/ping").status_code == HTTPStatus.OK, "/ping says no: it is busy"
            pings.append(time.monotonic() - begun)
            time.sleep(0.1)
        asked = [answer for one in asking for answer in one.result()]
    accepted = [one for one in asked if one.status == HTTPStatus.OK]
    refused = [one for one in asked if one.status == HTTPStatus.SERVICE_UNAVAILABLE]
    others = {one.status for one in asked} - {HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE}
    assert not others, f"besides 200 and 503, requests get {others}"
    assert refused, f"{CROWD} clients at a time, and none gets 503"
    assert all(one.retry_after for one in refused), "a 503 comes without Retry-After"
    turned = statistics.median(one.seconds for one in refused)
    assert turned < pause / 2, f"a 503 takes {turned:.2f} s"
    # Half of them, for the clients take their share of the machine as well.
    usual = statistics.median(one.seconds for one in accepted)
    assert usual < 2 * alone + pause / 2, (
        f"requests that are let in take {usual:.2f} s, and {alone:.2f} s alone"
    )
    assert statistics.median(pings) < pause / 2, f"/ping takes {statistics.median(pings):.2f} s"


@pytest.mark.promise("serving.sheds_load")
def test_burst_is_answered(serving: Serving, image: ImageUnderTest) -> None:
    """Of eight clients: that is no overload."""
    kind, payload = any_payload(serving)
    server = serving.server(kind)
    for _ in range(5):
        for answer in at_once(server, payload.body, payload.content_type):
            what = f"one of {AT_ONCE} requests at a time"
            assert_answered(answer, payload.predictions, image, what)
