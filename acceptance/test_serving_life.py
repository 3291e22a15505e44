"""Start and end of models' servers: readiness, stopping, dead workers, unloadable models."""

from __future__ import annotations

import secrets
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

import pytest
import requests

from seatrial.engine.ports import LOOPBACK
from seatrial.stack.model_server import (
    MODEL_PATH,
    ModelServer,
    ServedImage,
    start_model_server,
)
from seatrial.stack.run_container import run_in_container

from .endings import KILL_SERVER, KILLED, WITHIN, assert_clear_end, wait_ended
from .orphans import assert_reaped
from .predictions import assert_answered, assert_predicts
from .serving import (
    AT_ONCE,
    CONCURRENCY,
    GIVEN,
    LOAD_SECONDS,
    LOADING,
    REQUEST_TIMEOUT,
    SCRIPTABLE,
    SCRIPTED,
    at_once,
    require_scriptable,
    scripted,
    stop,
    with_parameters,
)
from .workers import clients_asking, clients_shifting, let_workers_load, signal_worker

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.trial.model_serving import ModelServers

    from .serving import ServedSample, StartServer

STOP_WAIT, DRAIN_WAIT = "MLFLOW_STOP_WAIT", "MLFLOW_DRAIN_WAIT"
STOPPED_WITHIN = 10
"""Seconds after which engines kill what they have told to stop, natively."""
AGAIN = 3
"""Times that a worker may try to load a model that can't be loaded."""
DEATHS = 5
"""Workers that are killed one after the other: more than there are at a time."""


class ServeImage(Protocol):
    """Start a server of an image, for one test alone."""

    def __call__(
        self,
        served: ServedImage,
        variables: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
    ) -> ModelServer:
        """Start it; it is not waited for."""


@pytest.fixture
def serve_image(serving: ModelServers) -> Iterator[ServeImage]:
    """Start servers of images that aren't among those of the models; they are not waited for."""
    trial, started = serving.trial, []

    def start(
        served: ServedImage,
        variables: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
    ) -> ModelServer:
        server = start_model_server(
            served,
            trial.session,
            trial.fresh_name("alone"),
            workers=1,
            environment=variables,
            command=command,
        )
        started.append(server)
        serving.pool.touch(server)
        return server

    yield start
    for server in started:
        server.remove()


@pytest.mark.promise("serving.ready_when_loaded")
def test_ready_means_loaded(serve_scriptable: StartServer, image: ImageUnderTest) -> None:
    """The first 200 on /ping comes when the model is loaded, which takes seconds here."""
    loading = LOADING * image.scale
    begun = time.monotonic()
    server = serve_scriptable(variables={LOAD_SECONDS: str(loading)})
    ready = time.monotonic() - begun
    assert ready >= loading, f"/ping says 200 after {ready:.1f} s, and the model loads {loading} s"
    asked = time.monotonic()
    assert_predicts(server, SCRIPTED)
    waited = time.monotonic() - asked
    assert waited < loading, (
        f"/ping said 200, and the next prediction took {waited:.1f} s: the model was not loaded"
    )


@pytest.mark.promise("serving.ready_when_loaded")
def test_first_answer_after_ready(serve_sample: StartServer, sample: ServedSample) -> None:
    """Eight requests at once are answered, whichever workers take them."""
    server = serve_sample()
    try:
        answers = at_once(server, sample.payload)
    except requests.RequestException as error:
        pytest.fail(f"/ping says 200, and one of {AT_ONCE} requests gets no answer: {error}")
    for answer in answers:
        case = "one of the first requests after /ping said 200"
        assert_answered(answer, sample.payload.predictions, server.image, case)


def _service_links(port: int) -> dict[str, str]:
    """Make what Kubernetes puts into containers for services of unlucky names, and for another."""
    links: dict[str, str] = {}
    for service in ("MLFLOW", "MLFLOW_MODEL", "MLFLOW_MODELS", "MLFLOW_MODELS_WORKERS", "MODEL"):
        address = f"tcp://10.0.0.1:{port}"
        links |= {
            f"{service}_SERVICE_HOST": "10.0.0.1",
            f"{service}_SERVICE_PORT": str(port),
            f"{service}_SERVICE_PORT_HTTP": str(port),
            f"{service}_PORT": address,
            f"{service}_PORT_{port}_TCP": address,
            f"{service}_PORT_{port}_TCP_ADDR": "10.0.0.1",
            f"{service}_PORT_{port}_TCP_PORT": str(port),
            f"{service}_PORT_{port}_TCP_PROTO": "tcp",
        }
    return links


@pytest.mark.promise("serving.ignores_service_links")
def test_starts_among_service_links(
    serve_sample: StartServer, sample: ServedSample, image: ImageUnderTest
) -> None:
    """The server listens where it would without them, and its health check asks there."""
    server = serve_sample(variables=_service_links(9))
    assert_predicts(server, sample.payload, "with Kubernetes' service links in the environment")
    form, *command = image.configuration.healthcheck or ("NONE",)
    if form == "CMD":
        checked = run_in_container(server.container, *command)
        assert checked.code == 0, f"the health check follows a service link: {checked}"


WORK = ("trace", "log", "cache", "ask")
"""Work of the scriptable model beside predicting: it traces a function, logs to files, draws and
keeps a cache, and asks for its home and its user."""


@pytest.mark.promise("serving.works_confined")
@pytest.mark.parametrize("work", WORK)
def test_model_works_confined(
    scriptable_server: ModelServer, work: str, image: ImageUnderTest
) -> None:
    """The working folder and the home of a model may be on a read-only root, its user unknown."""
    answer = scriptable_server.ask(with_parameters(work=work))
    assert_answered(answer, SCRIPTED.predictions, image, f"a model that does this first: {work}")


@pytest.mark.promise("serving.works_confined")
@pytest.mark.parametrize("command", [(), ("check",)], ids=["serve", "check"])
def test_model_is_loaded_confined(
    serving: ModelServers, serve_image: ServeImage, sample: ServedSample, command: tuple[str, ...]
) -> None:
    """A model may do all of this while it is loaded, by the server and by its check."""
    require_scriptable(serving)
    server = serve_image(
        serving.served_image(sample.model), {"SEATRIAL_WORK_AT_LOAD": " ".join(WORK)}, command
    )
    if not command:
        server.wait_ready()
        assert_predicts(server, SCRIPTED, "by a model that writes while it is loaded")
        return
    code = wait_ended(server, "it has checked its model", WITHIN)
    assert code == 0, f"`check` ends with exit code {code}; its log:\n{server.logs(20)}"


@pytest.mark.promise("serving.survives_workers")
def test_ready_follows_the_workers(serve_scriptable: StartServer, image: ImageUnderTest) -> None:
    """/ping fails while all workers are dead, and says 200 when others have loaded the model."""
    loading = LOADING * image.scale
    server = serve_scriptable(variables={LOAD_SECONDS: str(loading)})
    let_workers_load(server)

    for _ in range(image.workers):
        signal_worker(server, signal.SIGKILL)

    time.sleep(0.5 * image.scale)
    over = time.monotonic() + loading / 3
    while time.monotonic() < over:
        with suppress(requests.RequestException):  # a refused connection is as good as a 503
            status = server.get("/ping").status_code
            assert status != HTTPStatus.OK, (
                "all workers were killed, and /ping says 200 while new ones load their model"
            )
        time.sleep(0.2)
    server.wait_ready()
    assert_predicts(server, SCRIPTED, "by new workers")


@pytest.mark.promise("serving.finishes_requests")
def test_requests_in_flight_are_answered(
    serve_scriptable: StartServer, image: ImageUnderTest
) -> None:
    """A server that is told to stop has taken eight requests, half of which wait for a worker."""
    per_worker = str(4 // image.workers)
    server = serve_scriptable(variables={CONCURRENCY: per_worker, **_stopping(8, image)})
    pause = 2.0 * image.scale
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = {
            shift: pool.submit(server.ask, with_parameters(pause=pause, shift=float(shift)))
            for shift in range(AT_ONCE)
        }
        time.sleep(1.0 * image.scale)  # all requests have been taken, and none is answered yet
        stop(server)
        time.sleep(0.2 * image.scale)
        stop(server)  # a second signal must not cut the first stop short
    for shift, answer in zip(asked, _all_answered(asked.values()), strict=True):
        case = f"request {shift}, answered while the server stops"
        assert_answered(answer, scripted(2.0, float(shift)), image, case)
    _assert_ends_well(server, "it was told to stop")


@pytest.mark.promise("serving.finishes_requests")
def test_uploads_in_flight_are_answered(
    serve_sample: StartServer, sample: ServedSample, image: ImageUnderTest
) -> None:
    """A server that is told to stop has half of each of eight requests."""
    payload = sample.payload
    server = serve_sample(variables=_stopping(8, image))
    body, go_on = payload.body.encode(), threading.Event()

    def halves() -> Iterator[bytes]:
        yield body[: len(body) // 2]
        go_on.wait(60 * image.scale)
        yield body[len(body) // 2 :]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(server.ask, halves(), payload.content_type) for _ in range(AT_ONCE)]
        try:
            time.sleep(1.0 * image.scale)
            stop(server)
            time.sleep(0.2 * image.scale)
        finally:
            go_on.set()
    for answer in _all_answered(asked):
        case = "a request that was sent in part when the server was told to stop"
        assert_answered(answer, payload.predictions, image, case)
    _assert_ends_well(server, "it was told to stop")


@pytest.mark.promise("serving.finishes_requests")
def test_idle_clients_hold_nothing_up(
    serve_sample: StartServer, sample: ServedSample, image: ImageUnderTest
) -> None:
    """A client may keep its connection, or never send its whole request."""
    payload = sample.payload
    server = serve_sample(variables=_stopping(4, image))
    address = (LOOPBACK, int(server.url.rpartition(":")[2]))
    with requests.Session() as kept, socket.create_connection(address) as stalled:
        head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        stalled.sendall(head + b'Content-Length: 100\r\n\r\n{"inputs"')
        answer = kept.post(
            f"{server.url}/invocations",
            payload.body,
            headers={"Content-Type": payload.content_type},
            timeout=60 * image.scale,
        )
        assert_answered(answer, payload.predictions, image)
        stop(server)
        _assert_ends_well(server, "it was told to stop, and one client is idle, one stalled")


@pytest.mark.promise("serving.finishes_requests")
def test_stops_while_the_model_is_loaded(serve_scriptable: StartServer) -> None:
    server = serve_scriptable(wait=False, variables={LOAD_SECONDS: "3600"})
    time.sleep(3 * server.image.scale)
    stop(server)
    wait_ended(server, "it was told to stop while it loaded its model", WITHIN)


def _stopping(seconds: float, image: ImageUnderTest) -> dict[str, str]:
    """Variables that give a stop its seconds, and little time for clients that still connect."""
    return {STOP_WAIT: str(seconds * image.scale), DRAIN_WAIT: "0.5"}


def _all_answered(asked: Collection[Future[requests.Response]]) -> list[requests.Response]:
    """Require an answer to every request that was in flight, and return the answers."""
    failed = [str(request.exception()) for request in asked if request.exception()]
    assert not failed, (
        f"of {len(asked)} requests that were in flight when the server was told to stop,"
        f" {len(failed)} got no answer: {failed[0]}"
    )
    return [request.result() for request in asked]


def _assert_ends_well(server: ModelServer, cause: str) -> None:
    code = wait_ended(server, cause, STOPPED_WITHIN)
    assert code == 0, f"{cause}, and the container ended with exit code {code} instead of 0"


@pytest.mark.promise("serving.survives_workers")
def test_worker_that_is_killed_costs_no_request(
    serve_scriptable: StartServer, image: ImageUnderTest
) -> None:
    """A worker dies at a request, while it answers others."""
    server = serve_scriptable(variables={REQUEST_TIMEOUT: str(20 * image.scale)})
    with clients_shifting(server, 4) as shifts:
        for _ in range(DEATHS):
            mark, shift = f"seatrial-{secrets.token_hex(4)}", next(shifts)
            case = "the request at which a worker was killed"
            try:
                answer = server.ask(with_parameters(die_once=mark, shift=shift))
            except requests.RequestException as error:
                pytest.fail(f"{case} got no answer: {error}")
            assert_answered(answer, scripted(2.0, shift), image, case)


@pytest.mark.promise("serving.survives_workers")
def test_worker_that_is_killed_from_outside(
    serve_sample: StartServer, sample: ServedSample
) -> None:
    """Workers die whatever they do at that moment, and more of them than there are at a time."""
    begun = time.monotonic()
    server = serve_sample()
    loading = time.monotonic() - begun
    with clients_asking(server, 2, lambda: sample.payload):
        for _ in range(DEATHS):
            signal_worker(server, signal.SIGKILL)
            # The next worker to die is one that had time to load the model.
            time.sleep(loading)
    server.wait_ready()


KILL_LISTENER = """
import os, signal, sys
from pathlib import Path

tables = [path for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists()]
rows = [row.split() for table in tables for row in table.read_text().splitlines()[1:]]
port = f":{int(sys.argv[1]):04X}"
listening = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == "0A"}
for name in filter(str.isdigit, os.listdir("/proc")):
    try:
        files = {file.resolve().name for file in Path("/proc", name, "fd").iterdir()}
    except OSError:  # the process is another user's, or has ended
        continue
    if int(name) != 1 and listening & files:
        print(name, flush=True)
        os.kill(int(name), signal.SIGKILL)
"""


@pytest.mark.promise("process.exits_with_server")
@pytest.mark.parametrize("script", [KILL_SERVER, KILL_LISTENER], ids=["all of it", "what listens"])
def test_killed_model_server_ends_the_container(
    serve_sample: StartServer, sample: ServedSample, script: str, image: ImageUnderTest
) -> None:
    """The container may go on where the first process is the server, or starts another one."""
    server, start = serve_sample(), image.contract.start
    killed = run_in_container(server.container, start.interpreter, "-c", script, str(start.port))
    assert killed.code in (0, KILLED), f"the container's server can't be killed: {killed}"
    if not killed.output.split():
        pytest.skip("the server is the container's first process, with which it always ends")
    try:
        code = server.container.wait(timeout=WITHIN * image.scale)["StatusCode"]
    except requests.RequestException:  # the engine's client raises it at the time limit
        case = f"its server was killed, and {WITHIN * image.scale} s later the container still runs"
        try:
            assert_predicts(server, sample.payload, case)
        except requests.RequestException as error:
            pytest.fail(f"{case} without a server: {error}")
        return
    assert code not in (0, 143), (
        f"its server was killed, and the container ended with exit code {code}, as if all were well"
    )


@pytest.mark.promise("serving.reports_unloadable")
def test_model_that_cannot_be_loaded_is_reported(
    serve_scriptable: StartServer, image: ImageUnderTest
) -> None:
    reason = f"weights are missing {secrets.token_hex(4)}"
    server = serve_scriptable(wait=False, variables={"SEATRIAL_FAIL_TO_LOAD": reason})
    assert_clear_end(server, "its model can't be loaded", reason)
    times = server.logs(1000).count(reason)
    assert times <= AGAIN * image.workers, (
        f"the log says {times} times that the model can't be loaded; {AGAIN} for each of"
        f" {image.workers} workers are allowed"
    )


@pytest.mark.promise("serving.reports_unloadable")
def test_folder_without_a_model_is_reported(
    serving: ModelServers, sample: ServedSample, serve_image: ServeImage
) -> None:
    """The folder is without a model where nothing, or another folder, is mounted."""
    if GIVEN in serving.cases:
        there = run_in_container(
            serving.server(sample.model).container,
            *(serving.image.contract.start.interpreter, "-c"),
            f"import os; print(os.path.exists('{MODEL_PATH}/MLmodel'))",
        )
        if "True" not in there.output.split():
            pytest.skip(f"the image that was given has its model elsewhere than at {MODEL_PATH}")
    empty = serving.mounted("empty", {"README": b"no model"})
    server = serve_image(replace(serving.served_image(sample.model), volume=empty.volume))
    assert_clear_end(server, f"there is no model at {MODEL_PATH}", MODEL_PATH)


ANOTHER_PYTHON = "2.7"
UNMET = {"docopt": "docopt==0.6.2", "numpy": "numpy<1", ANOTHER_PYTHON: ""}
"""The word that an error must name, and the line that is added to a model's requirements."""


@pytest.mark.promise("serving.refuses_unmet")
@pytest.mark.parametrize("named", UNMET)
def test_model_with_other_requirements_is_refused(
    serving: ModelServers, named: str, serve_image: ServeImage
) -> None:
    """The image neither loads the model nor downloads what is missing: its content was tested."""
    if not serving.files:
        pytest.skip("the image holds its model, with the environment that was made for it")
    files = dict(serving.files[SCRIPTABLE])
    if line := UNMET[named]:
        files["requirements.txt"] += f"\n{line}\n".encode()
    else:
        python = serving.cases[SCRIPTABLE].python.encode()
        for name in ("MLmodel", "python_env.yaml", "conda.yaml"):
            assert python in files[name], (
                f"the trial is at fault: {name} of its model doesn't name its Python"
            )
            files[name] = files[name].replace(python, f"{ANOTHER_PYTHON}.18".encode())
    server = serve_image(serving.mounted("unmet", files))
    assert_clear_end(server, f"the model requires {line or named}", named)


@pytest.mark.promise("process.stops_within")
def test_model_server_stops_on_sigterm(serve_sample: StartServer, promised_number: int) -> None:
    server = serve_sample()
    server.container.kill(signal.SIGTERM)
    code = wait_ended(server, "SIGTERM", promised_number)
    assert code in (0, 128 + signal.SIGTERM), (
        f"after SIGTERM the container ended with exit code {code}, not 0 or 143"
    )


@pytest.mark.promise("process.reaps_zombies")
def test_orphans_leave_the_process_table_of_a_model_server(
    sample_server: ModelServer, image: ImageUnderTest
) -> None:
    assert_reaped(sample_server.container, image)
