"""What `invoke bench serving` makes of what it sees, without an engine."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from repository import BAKE_FILE

from bench import (
    candidate,
    fault_injection,
    floor,
    image_suite,
    load,
    model_versions,
    report_table,
    serving_suite,
    size,
    suites,
)
from bench.candidate import Candidate, Running
from bench.load import Call, FaultInjector, LoadResult
from bench.serving_suite import FaultResult, ModelRound
from seatrial.build import docker_cli
from seatrial.errors import UserError
from seatrial.model.build_docker import Base
from seatrial.trial.model_cases import TRAIN_MODELS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from docker.models.containers import Container

    from bench.runner import Runner
    from seatrial.stack.labels import Session

MEASURED = ModelRound(
    start=6.0,
    call=10.0,
    few=100.0,
    many=120.0,
    slow_many=0.5,
    errors=0,
    client_share=0.1,
    memory=400.0,
    processes=5,
)
FOUND = {
    "seatrial, 1 worker": replace(MEASURED, memory=300.0),
    "seatrial, 2 workers": replace(MEASURED, start=2.0, call=4.8, few=240.0, many=240.0),
    "mlflow, 1 worker": replace(MEASURED, start=5.0, call=8.0, few=100.0, many=160.0),
    "mlflow, 2 workers": replace(MEASURED, call=9.0, few=160.0, many=150.0, slow_many=0.75),
}


@contextmanager
def server(
    body: bytes = b"right", *, status: int = 200, breaks_off: bool = False, keeps: bool = True
) -> Iterator[ThreadingHTTPServer]:
    """Gives one answer, whatever it is asked."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) + breaks_off))
            self.send_header("Connection", "keep-alive" if keeps else "close")
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = breaks_off or not keeps

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        found.shutdown()


def base_of(found: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{found.server_port}"


def test_load_ends_with_its_seconds() -> None:
    with server() as found:
        result = load.many_at_once(base_of(found), [Call("/")], clients=2, seconds=0.2)
    assert result.answered > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"body": b"wrong"}, "another answer"),
        ({"status": 502}, "502"),
        ({"breaks_off": True}, "ClientPayloadError"),
    ],
)
def test_anything_but_the_whole_right_answer_is_a_failed_request(
    answer: dict[str, Any], error: str
) -> None:
    with server(**answer) as found:
        call = Call("/", expected=b"right")
        result = load.many_at_once(base_of(found), [call], clients=1, requests=3)
    assert result.errors == {error: 3}
    assert (result.failed, result.answered) == (3, 0)


def test_who_cannot_connect_has_sent_nothing() -> None:
    """The server stops between two requests of one client, each on a new connection."""
    with server(keeps=False) as found:

        def stop() -> None:
            found.shutdown()
            found.server_close()

        result = load.many_at_once(
            base_of(found),
            [Call("/", expected=b"right")],
            clients=1,
            seconds=0.6,
            injector=FaultInjector(stop, 0.2),
        )
    assert result.answered > 0
    assert result.errors["ClientConnectorError"] > 1
    # Closing, unlike those that are measured, it may reset one that had connected.
    assert result.failed <= 1


def test_refused_connections_are_told_apart_from_failed_requests() -> None:
    errors = {"ClientConnectorError": 9, "ConnectionTimeoutError": 2, "ServerDisconnectedError": 3}
    result = LoadResult(1.0, 0.1, 0.2, errors, 0.1, answered=5)
    assert result.failed == 3
    total = FaultResult() + result + replace(result, errors={"502": 1})
    assert (total.failed, total.answered) == (4, 10)
    assert str(total) == (
        "10 were answered (502: 1, ClientConnectorError: 9, ConnectionTimeoutError: 2,"
        " ServerDisconnectedError: 3)"
    )
    assert "no error at all" in str(FaultResult())


def test_only_those_that_started_nobody_are_leaves() -> None:
    assert candidate.leaves({10: 1, 11: 10, 12: 11, 13: 11, 14: 10}) == [12, 13, 14]


def running(
    processes: dict[int, int], log: bytes = b"", port: int = 1, address: str = "127.0.0.1"
) -> Running:
    """A container that has these processes, with their parents."""
    stub = SimpleNamespace(
        name="stub",
        status="running",
        attrs={"NetworkSettings": {"Networks": {"net": {"IPAddress": address}}}},
        reload=lambda: None,
        logs=lambda **_: log,
        top=lambda ps_args: {
            "Titles": ps_args.split()[-1].split(","),
            "Processes": [[str(pid), str(parent)] for pid, parent in processes.items()],
        },
    )
    session = cast("Session", SimpleNamespace(network="net"))
    return Running(Candidate("stub", "stub", port=port), cast("Container", stub), session)


def test_workers_hold_the_model_and_have_no_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate, "_PROCESSES", tmp_path)
    for pid, text in ((21, "numpy/core.so"), (22, "uvloop.so"), (23, "numpy/core.so")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "maps").write_text(f"7f00-7f01 r-xp 0 0 0 /site-packages/{text}\n")
    tree = {21: 1, 22: 21, 23: 21, 24: 21}  # the last one has just ended
    assert running(tree).holders("/numpy/") == [23]


def test_processes_elsewhere_cannot_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate, "_PROCESSES", tmp_path)
    with pytest.raises(UserError, match="not on this machine"):
        running({21: 1}).memory()


def test_a_server_without_a_worker_cannot_lose_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate, "_PROCESSES", tmp_path)
    (tmp_path / "21").mkdir()
    (tmp_path / "21" / "maps").write_text("")
    with pytest.raises(UserError, match="no process holds the model"):
        fault_injection.FAULTS[1].prepare(running({21: 1}))


def test_workers_are_ready_when_the_metrics_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_injection, "_READY_LIMIT", 0.3)
    with server(b"mlflow_model_workers_ready 1.0\n") as found:
        stub = running({}, port=found.server_port)
        fault_injection.wait_for_workers(stub, 1)
        with pytest.raises(UserError, match="stub did not have 2 workers ready within"):
            fault_injection.wait_for_workers(stub, 2)


def test_workers_are_ready_when_the_log_says_so() -> None:
    log = b"INFO:     Application startup complete.\n" * 2
    assert fault_injection.started(log) == 2
    with server(status=404) as found:
        fault_injection.wait_for_workers(running({}, log, found.server_port), 2)


def test_each_figure_stands_against_the_better_of_mlflow() -> None:
    figures = {figure.name: figure for figure in serving_suite.compare(FOUND)}
    baselines = {
        name.partition(": ")[2]: (figure.against, figure.baseline)
        for name, figure in figures.items()
        if name.startswith("seatrial, 2 workers")
    }
    assert baselines == {
        "one row, p50": ("mlflow, 1 worker", 8.0),
        "8 connections": ("mlflow, 2 workers", 160.0),
        "64 connections": ("mlflow, 1 worker", 160.0),
        "first 200 on /ping": ("mlflow, 1 worker", 5.0),
        "memory (PSS)": ("mlflow, 2 workers", 400.0),
    }
    assert all(figure.met for figure in figures.values())
    assert "p99 0.50 s (0.50 and 0.75 s)" in figures["seatrial, 2 workers: 64 connections"].note
    assert report_table.row(figures["seatrial, 2 workers: one row, p50"])[4:] == (
        "0.60x",
        "≤ 0.6x",
        "met",
    )


@pytest.mark.parametrize(
    ("name", "worse", "missed"),
    [
        ("seatrial, 2 workers", {"call": 4.9}, "seatrial, 2 workers: one row, p50"),
        ("seatrial, 2 workers", {"few": 239.0}, "seatrial, 2 workers: 8 connections"),
        ("seatrial, 2 workers", {"many": 239.0}, "seatrial, 2 workers: 64 connections"),
        ("seatrial, 2 workers", {"start": 2.6}, "seatrial, 2 workers: first 200 on /ping"),
        ("seatrial, 1 worker", {"memory": 401.0}, "seatrial, 1 worker: memory (PSS)"),
        ("seatrial, 2 workers", {"memory": 401.0}, "seatrial, 2 workers: memory (PSS)"),
    ],
)
def test_every_bar_of_serving(name: str, worse: dict[str, float], missed: str) -> None:
    found = {**FOUND, name: replace(FOUND[name], **worse)}
    assert [figure.name for figure in serving_suite.compare(found) if not figure.met] == [missed]


def test_settings_stand_against_our_server_as_it_is() -> None:
    others = {f"seatrial with {name}": MEASURED for name in serving_suite.SETTINGS}
    figures = list(serving_suite.compare_settings({**FOUND, **others}))
    assert len(figures) == 3 * len(serving_suite.SETTINGS)
    assert {figure.against for figure in figures} == {"seatrial, 2 workers"}
    assert {figure.met for figure in figures} == {None}


def test_both_sides_have_the_same_limits() -> None:
    seatrial, mlflow = (
        serving_suite.candidate(side, 2) for side in (serving_suite.SEATRIAL, serving_suite.MLFLOW)
    )
    assert seatrial.limits == mlflow.limits == serving_suite.LIMITS
    variables = {"MLFLOW_MODELS_WORKERS": "2", "MLFLOW_MODELS_QUEUE": str(serving_suite.MANY)}
    assert seatrial.environment == mlflow.environment == variables
    assert seatrial.reference == "seatrial-bench/seatrial:1"


BUILD_OUTPUT = """\
#4 [1/9] FROM docker.io/library/python:3.13.5-slim
#4 CACHED
#5 [2/9] RUN apt-get -y update && apt-get install nginx
#5 1.234 Get:1 nginx
#5 DONE 12.5s
#6 [3/9] RUN pip install mlflow==3.17.2
#6 DONE 40.1s
#7 exporting to image
#7 DONE 20.0s
"""


def test_steps_of_a_build_are_read_from_its_output() -> None:
    assert model_versions.steps(BUILD_OUTPUT) == {
        "RUN apt-get -y update && apt-get install nginx": 12.5,
        "RUN pip install mlflow==3.17.2": 40.1,
    }


class FakeRunner:
    """Keeps the commands, and leaves the record that `invoke model` would."""

    def __init__(self, records: Path) -> None:
        self.commands: list[list[str]] = []
        self._records = records

    def run(self, words: list[str], variables: object = None) -> str:  # noqa: ARG002
        """Make the record."""
        self.commands.append(words)
        made = {"seconds": 3.5, "images": [{"reference": words[-1]}]}
        path = self._records / f"{len(self.commands)}.json"
        path.write_text(json.dumps(made))
        os.utime(path, (len(self.commands),) * 2)
        return BUILD_OUTPUT


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> model_versions.Builds:
    for name in ("records", "locks"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("seatrial.build.record.folder", lambda: tmp_path / "records")
    monkeypatch.setattr(model_versions, "LOCKS", tmp_path / "locks")
    trained = model_versions.Trained(tmp_path / "versions", "3.13.5", {}, [])
    runner = cast("Runner", FakeRunner(tmp_path / "records"))
    return model_versions.Builds(runner, trained, Base("python:3.13.5-slim", "sha256:0"))


def test_cold_build_starts_without_a_lock(builds: model_versions.Builds, tmp_path: Path) -> None:
    lock = tmp_path / "locks" / "seatrial-bench_seatrial" / "amd64" / "requirements.txt"
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert builds.seatrial_anew(1) == 3.5
    assert not lock.exists()
    first = (tmp_path / "locks" / "seatrial-bench_seatrial" / "moment").read_text()
    builds.seatrial_anew(1)
    assert (tmp_path / "locks" / "seatrial-bench_seatrial" / "moment").read_text() != first


def test_builds_are_those_of_a_user(builds: model_versions.Builds) -> None:
    builds.seatrial(2)
    builds.mlflow(2)
    assert builds.mlflow_anew(1)["RUN pip install mlflow==3.17.2"] == 40.1
    seatrial, mlflow, anew = cast("FakeRunner", builds.runner).commands
    folder = str(builds.trained.version(2))
    assert seatrial[1:] == [
        *("-m", "invoke", "model", "--model-uri", folder),
        *("--tag", "seatrial-bench/seatrial:2"),
    ]
    assert mlflow[1:5] == anew[1:5] == ["-m", "mlflow", "models", "build-docker"]


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        (["build", "-t", "a b", "."], ["build", "-t", "a b", ".", "--set=a.b=c d"]),
        (["buildx", "bake", "model"], ["buildx", "bake", "model", "--set=a.b=c d"]),
        (["buildx", "ls"], ["buildx", "ls"]),
        (["save", "image"], ["save", "image"]),
    ],
)
def test_only_builds_get_the_options(
    words: list[str], passed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "real one"
    folder.mkdir()
    fake = folder / "docker"
    fake.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    with docker_cli.with_options("--set=a.b=c d") as variables:
        environment = {**os.environ, **variables}
        command = ["sh", "-c", 'exec docker "$@"', "sh", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == passed


@pytest.mark.parametrize(("target", "last"), [("model-tried", "tried"), ("model", "model")])
@pytest.mark.parametrize("shared", [True, False])
def test_stages_that_follow_the_environment(target: str, last: str, shared: bool) -> None:
    """Bake takes an unknown stage without a word, and its steps would come from the cache."""
    block = f'target "{target}" {{\n  no-cache-filter = ["with-environment", "{last}"]\n}}'
    assert block in model_versions.ANEW.read_text(encoding="utf-8")
    assert f'target "{target}" {{' in BAKE_FILE.read_text(encoding="utf-8")
    stage = "with-environment" if shared else last
    text = (BAKE_FILE.parent / "model-server" / "Dockerfile").read_text(encoding="utf-8")
    _, found, rest = text.partition(f" AS {stage}\n")
    assert found
    # Such a stage would empty the mounts that hold downloads.
    assert "type=cache" not in rest.partition("\nFROM ")[0]


def test_a_build_without_a_record_is_no_measurement(builds: model_versions.Builds) -> None:
    with pytest.raises(LookupError, match="none of seatrial-bench/seatrial:1"):
        model_versions._recorded_seconds("seatrial-bench/seatrial:1")
    assert builds.seatrial(1) == 3.5


def test_what_was_built_is_removed_with_its_locks(
    builds: model_versions.Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = []
    monkeypatch.setattr("bench.baking.remove_images", lambda: removed.append("images"))
    builds.seatrial_anew(1)
    other = tmp_path / "locks" / "somebodys_model"
    other.mkdir()
    model_versions.remove()
    assert removed == ["images"]
    assert list((tmp_path / "locks").iterdir()) == [other]


def test_bare_handler_gives_back_what_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    caught: list[Any] = []
    fake = SimpleNamespace(run=lambda app, **_: caught.append(app))
    monkeypatch.setitem(sys.modules, "uvicorn", cast("Any", fake))
    exec(compile(floor.HANDLER, "handler", "exec"), {})
    pieces = [
        {"type": "http.request", "body": b"wa", "more_body": True},
        {"type": "http.request", "body": b"ve", "more_body": False},
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return pieces.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(caught[0]({"type": "http"}, receive, send))
    assert sent[0]["headers"] == [(b"content-length", b"4")]
    assert sent[1]["body"] == b"wave"


def test_scripts_for_containers_are_whole() -> None:
    for path in (model_versions.VERSIONS, model_versions.SCRIPTED, TRAIN_MODELS):
        compile(path.read_text(encoding="utf-8"), path.name, "exec")
    compile(floor.IN_PROCESS, "in-process", "exec")


def test_layers_are_weighed_as_they_are_too() -> None:
    small, whole = size.compressed(io.BytesIO(b"wave " * 1000))
    assert whole == 5000
    assert small < 500


def test_parts_and_options_of_the_suite() -> None:
    assert suites.choose("serving", (), cold=False, full=False, repeat=1) == serving_suite.PARTS
    assert suites.choose("serving", ("faults", "build"), cold=False, full=False, repeat=2) == (
        "build",
        "faults",
    )
    with pytest.raises(UserError, match="unknown part 'warm': known are build, size, serving"):
        suites.choose("serving", ("warm",), cold=False, full=False, repeat=1)


def test_parts_do_not_change_the_other_suites() -> None:
    assert suites.SUITES["image"] == image_suite.PARTS
    assert floor.handler("an/image", "python").path == "/"


def test_other_platforms_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seatrial.engine.connection.native_platform", lambda: "linux/arm64")
    with pytest.raises(UserError, match="MLflow builds images for linux/amd64 alone"):
        serving_suite.measure(cast("Any", None), cast("Any", None), serving_suite.PARTS, 1)
