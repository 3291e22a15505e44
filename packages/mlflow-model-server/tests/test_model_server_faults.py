"""The server of models under hung, greedy and too many requests, and slow clients."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import requests
from pyarrow import parquet
from test_model_server_processes import (
    JSON,
    UNSENT,
    Load,
    Server,
    _ends,
    _frame,
    _metric,
    _received,
    _saved,
    _sent,
    _until,
    ready,
    started,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psutil

TIMEOUT = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
WORKERS, CONCURRENCY = "MLFLOW_MODELS_WORKERS", "MLFLOW_MODELS_CONCURRENCY"
RESTARTS = "mlflow_model_worker_restarts_total"
PARQUET = {"content-type": "application/vnd.apache.parquet"}
CSV = {"content-type": "text/csv"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tmp_path_factory.mktemp("scripted"))


def _pids(server: Server) -> set[int]:
    return {one.pid for one in server.workers()}


def _at_once(server: Server, number: int, *words: str) -> list[requests.Response]:
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(lambda _: server.invoke(*words), range(number)))


@pytest.mark.parametrize("how", ["sleep:1000", "hold:1000"])
def test_hung_predictions_are_ended(model: Path, tmp_path: Path, how: str) -> None:
    """Of all lanes of all workers: /ping says so meanwhile, and others answer afterwards."""
    variables = {TIMEOUT: "2", CONCURRENCY: "2", WORKERS: "2"}
    statuses: set[int | None] = set()
    over = threading.Event()

    def ping() -> None:
        while not over.is_set():
            statuses.add(server.status())
            time.sleep(0.05)

    with ready(model, tmp_path, **variables) as server:
        _until(lambda: _metric(server, "mlflow_model_workers_ready") == 2, "one is missing")
        before = _pids(server)
        pinging = threading.Thread(target=ping)
        pinging.start()
        assert {one.status_code for one in _at_once(server, 4, how)} == {504}
        _until(lambda: 503 in statuses, "it says that it is ready")
        _until(lambda: server.status() == 200, "it doesn't recover")
        over.set()
        pinging.join()
        assert server.invoke("a").json() == {"predictions": ["a"]}
        _until(lambda: _metric(server, "mlflow_model_workers_ready") == 2, "one is missing")
        assert not before & _pids(server)
        log = server.errors.read_text().splitlines()
    assert len(log) == 2
    assert all("was ended, for a prediction took longer than 2 s: another" in one for one in log)


def test_a_hung_prediction_costs_no_other_request(model: Path, tmp_path: Path) -> None:
    with ready(model, tmp_path, **{TIMEOUT: "2"}) as server, Load(server) as load:
        assert server.invoke("sleep:1000").status_code == 504
        _until(lambda: _metric(server, RESTARTS) == 1, "it wasn't replaced")
    assert not load.faults


def test_a_late_prediction_ends_no_worker(model: Path, tmp_path: Path) -> None:
    """Nor does one that had to wait: the time counts that a worker takes."""
    variables = {TIMEOUT: "2", WORKERS: "1", CONCURRENCY: "1", "MLFLOW_MODELS_QUEUE": "9"}
    with ready(model, tmp_path, **variables) as server:
        before = _pids(server)
        assert server.invoke("sleep:3").status_code == 504
        assert server.invoke("a").status_code == 200
        answers = _at_once(server, 3, "sleep:1.2")
        assert sorted(one.status_code for one in answers) == [200, 504, 504]
        assert server.invoke("a").status_code == 200
        assert _pids(server) == before


def test_a_prediction_may_hold_the_interpreter(model: Path, tmp_path: Path) -> None:
    """For as long as it may take: others go to the other worker."""
    with ready(model, tmp_path, **{TIMEOUT: "4"}) as server:
        _until(lambda: _metric(server, "mlflow_model_workers_ready") == 2, "one is missing")
        before = _pids(server)
        answers = _at_once(server, 2, "hold:3")
        assert [one.status_code for one in answers] == [200, 200]
        assert _pids(server) == before


def test_a_worker_that_is_stopped_is_replaced(model: Path, tmp_path: Path) -> None:
    with ready(model, tmp_path) as server, Load(server) as load:
        _until(lambda: len(server.workers()) == 2, "one is missing")
        server.workers()[0].suspend()
        _until(lambda: _metric(server, RESTARTS) == 1, "it wasn't replaced")
        _until(lambda: _metric(server, "mlflow_model_workers_ready") == 2, "one is missing")
    assert not load.faults
    assert "was ended, for it was stopped: another one is started" in server.errors.read_text()


def test_ready_follows_workers_that_are_stopped(model: Path, tmp_path: Path) -> None:
    with ready(model, tmp_path, **{WORKERS: "1"}) as server:
        [worker] = server.workers()
        worker.suspend()
        _until(lambda: server.status() == 503, "it says that it is ready")
        worker.resume()
        _until(lambda: server.status() == 200, "it doesn't recover")
        assert _pids(server) == {worker.pid}
        assert server.invoke("a").status_code == 200


def test_an_idle_worker_that_does_not_run_is_replaced(model: Path, tmp_path: Path) -> None:
    """A thread of the model's holds Python's lock for ever."""
    with ready(model, tmp_path, **{WORKERS: "1", TIMEOUT: "1"}) as server:
        assert server.invoke("seize").status_code == 200
        _until(lambda: _metric(server, RESTARTS) == 1, "it wasn't replaced")
        assert server.invoke("a").status_code == 200
    assert "was ended, for its threads have not run for 1 s" in server.errors.read_text()


def test_loading_that_hangs(model: Path, tmp_path: Path) -> None:
    variables = {"TEST_LOAD": "hang", "MLFLOW_MODELS_LOAD_TIMEOUT": "2"}
    with started(model, tmp_path, **variables) as server:
        log = _ends(server)
    assert re.search(r"worker \d was ended, for it did not load the model in 2 s; MLFLOW_", log)


def test_a_replacement_that_hangs(model: Path, tmp_path: Path) -> None:
    variables = {
        "TEST_LOAD": "fine then fine then hang then fine",
        "TEST_COUNT": str(tmp_path / "count"),
        "MLFLOW_MODELS_LOAD_TIMEOUT": "8",
    }
    with ready(model, tmp_path, **variables) as server:
        _until(lambda: len(server.workers()) == 2, "there is one worker only")
        server.workers()[0].kill()
        _until(lambda: _metric(server, RESTARTS) == 2, "it wasn't replaced")
        assert server.invoke("a").json() == {"predictions": ["a"]}
        assert "did not load the model in 8 s: another one" in server.errors.read_text()


MEMORY = {"MLFLOW_MODELS_WORKER_MEMORY": str(800 << 20), TIMEOUT: "30"}


@pytest.mark.parametrize("eaters", [1, 2])
def test_a_greedy_request_costs_one_worker(model: Path, tmp_path: Path, eaters: int) -> None:
    """Two that share a worker may both be innocent alone: they cost that one, and one each."""
    with ready(model, tmp_path, **MEMORY) as server:
        _until(lambda: _metric(server, "mlflow_model_workers_ready") == 2, "one is missing")
        with Load(server, 4) as load:
            answers = _at_once(server, eaters, f"eat:{4 << 30}")
            assert [one.status_code for one in answers] == [507] * eaters
        assert not load.faults
        assert answers[0].json()["error_code"] == "RESOURCE_EXHAUSTED"
        assert _metric(server, RESTARTS) <= eaters + (eaters > 1)
        assert server.invoke("a").status_code == 200
        log = server.errors.read_text()
    assert "was ended, for it took more than 838860800 bytes of memory: another one is" in log


def test_a_prediction_without_memory(model: Path, tmp_path: Path) -> None:
    """What Python can refuse costs no worker."""
    with ready(model, tmp_path) as server:
        got = server.invoke("too much")
        assert got.status_code == 507
        assert "MemoryError at " in server.errors.read_text()
        assert _metric(server, RESTARTS) == 0


def test_workers_are_the_kernels_first(model: Path, tmp_path: Path) -> None:
    """To be ended, where memory is short; a container's score is kept apart from others'."""

    def score(process: psutil.Process) -> int:
        return int(Path(f"/proc/{process.pid}/oom_score_adj").read_text())

    with ready(model, tmp_path) as server:
        _until(lambda: len(server.workers()) == 2, "one is missing")
        assert {score(one) - score(server.front()) for one in server.workers()} == {500}


def _parquet(column: pa.Array | pa.ChunkedArray, **options: object) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"do": column}), buffer, **options)
    return buffer.getvalue()


def _repeated(value: object, times: int, kind: pa.DataType | None = None) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), times)


BOMBS: dict[str, Callable[[], tuple[dict[str, str], bytes]]] = {
    "repeated numbers": lambda: (PARQUET, _parquet(_repeated(1.5, 150_000_000))),
    "repeated truth": lambda: (PARQUET, _parquet(_repeated(value=True, times=150_000_000))),
    "zeros": lambda: (
        PARQUET,
        _parquet(pa.array(np.zeros(140_000_000)), use_dictionary=False, compression="zstd"),
    ),
    "repeated text": lambda: (PARQUET, _parquet(_repeated("x" * 10_000, 200_000))),
    "repeated text, compressed": lambda: (
        PARQUET,
        _parquet(pa.array(["x" * 1_000_000] * 1200), use_dictionary=False, compression="zstd"),
    ),
    "text with common beginnings": lambda: (
        PARQUET,
        _parquet(
            pa.array(["x" * 100_000] * 11_000),
            use_dictionary=False,
            column_encoding={"do": "DELTA_BYTE_ARRAY"},
            compression="zstd",
        ),
    ),
    "lists of text": lambda: (
        PARQUET,
        _parquet(pa.array([["x" * 100_000] * 10] * 1200)),
    ),
    "a long list": lambda: (
        PARQUET,
        _parquet(pa.LargeListArray.from_arrays([0, 20_000_000], _repeated(1, 20_000_000))),
    ),
    "bytes of one length": lambda: (
        PARQUET,
        _parquet(_repeated(b"x" * 10_000, 150_000, pa.binary(10_000))),
    ),
    "decimal numbers": lambda: (
        PARQUET,
        _parquet(_repeated(None, 20_000_000, pa.decimal128(30, 2))),
    ),
    "nothing": lambda: (PARQUET, _parquet(pa.nulls(150_000_000))),
    "much metadata": lambda: (
        PARQUET,
        b"PAR1" + bytes(18 << 20) + (18 << 20).to_bytes(4, "little") + b"PAR1",
    ),
    "records of many columns": lambda: (
        JSON,
        json.dumps({"dataframe_records": [{f"c{n}": 1} for n in range(15_000)]}).encode(),
    ),
    "ragged rows": lambda: (
        JSON,
        json.dumps(
            {"dataframe_split": {"data": [[1]] * 50_000 + [[1] * 50_000]}}, separators=(",", ":")
        ).encode(),
    ),
    "a number for a frame": lambda: (
        JSON,
        json.dumps(
            {"dataframe_split": {"data": 1, "index": [0] * 30_000, "columns": [0] * 30_000}}
        ).encode(),
    ),
    "many columns": lambda: (
        JSON,
        json.dumps({"dataframe_split": {"data": [], "columns": [0] * 1_200_000}}).encode(),
    ),
    "a long text among short ones": lambda: (
        JSON,
        json.dumps({"inputs": {"do": ["a"] * 20_000 + ["x" * 100_000]}}).encode(),
    ),
    "a long text among short instances": lambda: (
        JSON,
        json.dumps({"instances": [{"do": "a"}] * 20_000 + [{"do": "x" * 100_000}]}).encode(),
    ),
    "short lines below a wide one": lambda: (
        CSV,
        b",".join(b"c%d" % number for number in range(20_000)) + b"\n1" * 20_000,
    ),
    "a wide line": lambda: (CSV, b"," * 1_200_000 + b"\n"),
    "a wide line below": lambda: (CSV, b"do\n" + b"," * 1_200_000 + b"\n"),
}


@pytest.fixture(scope="module")
def guarded(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with ready(model, tmp_path_factory.mktemp("guarded"), **{WORKERS: "1"}) as one:
        yield one


@pytest.mark.parametrize("name", BOMBS)
def test_what_unpacks_to_gigabytes_is_refused(guarded: Server, name: str) -> None:
    headers, body = BOMBS[name]()
    assert len(body) < 20 << 20
    [worker] = guarded.workers()
    before = worker.memory_info().rss
    got = requests.post(guarded.url(), data=body, headers=headers, timeout=60)
    assert got.status_code == 413, got.text
    assert "unpacks to" in got.json()["message"]
    assert worker.memory_info().rss - before < 700 << 20
    assert guarded.invoke("a").status_code == 200
    assert _metric(guarded, RESTARTS) == 0


ODD: dict[str, tuple[dict[str, str], bytes, int]] = {
    "deep lists": (JSON, b'{"inputs": ' + b"[" * 1_000_000, 400),
    "deep lists that end": (JSON, b'{"inputs": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400),
    "deep lists NumPy can't take": (JSON, b'{"inputs": ' + b"[" * 500 + b"]" * 500 + b"}", 400),
    "a long integer": (JSON, b'{"inputs": ' + b"1" * 1_000_000 + b"}", 400),
    "a long fraction": (JSON, b'{"inputs": [0.' + b"1" * 1_000_000 + b"]}", 200),
    "a large exponent": (JSON, b'{"inputs": [1e999999999]}', 200),
    "packed": (JSON | {"content-encoding": "gzip"}, b"{}", 415),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_bodies_end_no_worker(guarded: Server, name: str) -> None:
    headers, body, status = ODD[name]
    got = requests.post(guarded.url(), data=body, headers=headers, timeout=60)
    assert got.status_code == status, got.text
    assert _metric(guarded, RESTARTS) == 0


FITTING: dict[str, Callable[[], tuple[dict[str, str], bytes]]] = {
    "text": lambda: (PARQUET, _parquet(pa.array([f"text {n}" for n in range(100_000)]))),
    "repeated text": lambda: (PARQUET, _parquet(_repeated("some text", 1_000_000))),
    "long texts that differ": lambda: (
        PARQUET,
        _parquet(pa.array([f"{n:05}" * 400 for n in range(4000)])),
    ),
    "text with common beginnings": lambda: (
        PARQUET,
        _parquet(
            pa.array([f"text {n}" for n in range(1000)]),
            use_dictionary=False,
            column_encoding={"do": "DELTA_BYTE_ARRAY"},
        ),
    ),
    "csv": lambda: (
        CSV,
        pd.DataFrame({"do": [f"a{n}" for n in range(200_000)]}).to_csv(index=False).encode(),
    ),
    "records": lambda: (
        JSON,
        json.dumps({"dataframe_records": [{"do": "a"}] * 100_000}).encode(),
    ),
    "a long text in a frame": lambda: (
        JSON,
        json.dumps({"dataframe_split": _frame(("a",) * 20_000 + ("x" * 100_000,))}).encode(),
    ),
    "an array": lambda: (JSON, json.dumps({"inputs": {"do": ["a"] * 100_000}}).encode()),
}


@pytest.mark.parametrize("name", FITTING)
def test_what_fits_is_answered(guarded: Server, name: str) -> None:
    headers, body = FITTING[name]()
    got = requests.post(guarded.url(), data=body, headers=headers, timeout=60)
    assert got.status_code == 200, got.text[:500]


def test_clients_that_do_not_read_take_bounded_memory(model: Path, tmp_path: Path) -> None:
    limit, size, clients = 20_000_000, 8_000_000, 24
    with ready(model, tmp_path, MLFLOW_MODELS_MAX_UNSENT_BYTES=str(limit)) as server:
        before = server.front().memory_info().rss
        body = json.dumps({"dataframe_split": _frame((f"large:{size}",))}).encode()
        unread = [_sent(server, f"content-length: {len(body)}", body) for _ in range(clients)]
        most = 0.0
        for _ in range(60):
            most = max(most, _metric(server, UNSENT))
            time.sleep(0.05)
        got = server.invoke(f"large:{size}")
        assert got.status_code == 200
        assert len(got.json()["predictions"][0]) == size
        grown = server.front().memory_info().rss - before
        assert 0 < most <= limit
        assert grown < 5 * limit, f"{grown} bytes"
        assert server.invoke("a").status_code == 200
        for one in unread:
            one.close()
        _until(lambda: _metric(server, UNSENT) == 0, "it counts what is gone")
        got = server.invoke(f"large:{limit + 1}")
        assert (got.status_code, got.json()["message"]) == (
            500,
            f"the answer is longer than {limit} bytes",
        )


def test_requests_beyond_the_queue_are_turned_away(model: Path, tmp_path: Path) -> None:
    variables = {WORKERS: "1", CONCURRENCY: "1", "MLFLOW_MODELS_QUEUE": "2"}
    with ready(model, tmp_path, **variables) as server, ThreadPoolExecutor(3) as pool:
        taken = [pool.submit(server.invoke, "sleep:2") for _ in range(3)]
        _until(lambda: _metric(server, "mlflow_model_requests_waiting") == 2, "none waits")
        begun = time.monotonic()
        with requests.Session() as session:
            for _ in range(20):
                got = session.post(
                    server.url(), json={"dataframe_split": _frame(("a",))}, timeout=9
                )
                assert got.status_code == 503
                assert got.headers["retry-after"] == "1"
                assert "connection" not in got.headers
        large = requests.post(server.url(), data=b" " * 200_000, headers=JSON, timeout=9)
        assert (large.status_code, large.headers["connection"]) == (503, "close")
        assert server.status() == 200
        assert time.monotonic() - begun < 2, "they waited for the predictions"
        assert [one.result().status_code for one in taken] == [200] * 3
        assert server.invoke("a").status_code == 200


def test_the_queue_is_bounded_in_bytes(model: Path, tmp_path: Path) -> None:
    limit = 100_000
    variables = {
        "MLFLOW_MODELS_MAX_REQUEST_BYTES": str(limit),
        "MLFLOW_MODELS_QUEUE_BYTES": str(limit),
    }
    with ready(model, tmp_path, **variables) as server:
        head = f"content-length: {limit}"
        stalled = _sent(server, head, b" " * 60_000)
        held = "mlflow_model_request_bytes_held"
        _until(lambda: _metric(server, held) == 60_000, "it isn't counted")
        answer, _ = _received(_sent(server, head, b" " * 60_000))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert server.invoke("a").status_code == 200
        assert server.status() == 200
        stalled.close()
        _until(lambda: _metric(server, held) == 0, "it counts what is gone")
        answer, _ = _received(_sent(server, head, b" " * limit))
        assert answer.status == 400
