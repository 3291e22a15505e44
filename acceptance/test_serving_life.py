"""Models' servers from their start to their end: readiness, stopping, workers that die, faults."""

from __future__ import annotations

import itertools
import secrets
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest
import requests

from seatrial.stack.model_server import MODEL_PATH, start_model_server
from seatrial.stack.oneoff import run_in_container
from seatrial.stack.services import LOOPBACK

from .endings import KILL_SERVER, KILLED, WITHIN, assert_clear_end, ended
from .orphans import assert_reaped
from .predictions import assert_answered
from .serving import (
    AT_ONCE,
    GIVEN,
    LOAD_SECONDS,
    LOADING,
    SCRIPTABLE,
    SCRIPTED_ANSWER,
    any_payload,
    at_once,
    scriptable,
    scripted,
    stop,
    with_parameters,
)
from .workers import asking_on, signal_worker

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from concurrent.futures import Future

    from seatrial.contract import Promise
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.model_server import ModelServer, ServedImage
    from seatrial.trial.fixtures import StartServing
    from seatrial.trial.model_serving import Serving

CONCURRENCY = "MLFLOW_MODELS_CONCURRENCY"
STOP_WAIT, DRAIN_WAIT = "MLFLOW_STOP_WAIT", "MLFLOW_DRAIN_WAIT"
STOPPED_WITHIN = 10
"""Seconds after which engines kill what they have told to stop, natively."""
REQUEST_TIMEOUT = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
AGAIN = 3
"""How often a model may be tried that can't be loaded: some let each worker try, or try again."""
DEATHS = 5
"""How often workers are killed: more often than there are."""


@pytest.mark.promise("serving.ready_when_loaded")
def test_ready_means_loaded(serving: Serving, serve: StartServing, image: ImageUnderTest) -> None:
    """The first 200 on /ping comes after the model, whose loading takes its time here."""
    kind = scriptable(serving)
    loading = LOADING * image.scale
    begun = time.monotonic()
    server = serve(kind, variables={LOAD_SECONDS: str(loading)})
    ready = time.monotonic() - begun
    assert ready >= loading, f"/ping says 200 after {ready:.1f} s, and the model loads {loading} s"
    asked = time.monotonic()
    assert_answered(server.ask(with_parameters()), SCRIPTED_ANSWER, image)
    waited = time.monotonic() - asked
    assert waited < loading, f"after /ping said 200 an answer took {waited:.1f} s"


@pytest.mark.promise("serving.ready_when_loaded")
def test_first_answer_after_ready(
    serving: Serving, serve: StartServing, image: ImageUnderTest
) -> None:
    """Of eight at once: whichever worker takes them."""
    kind, payload = any_payload(serving)
    server = serve(kind)
    try:
        answers = at_once(server, payload.body, payload.content_type)
    except requests.RequestException as error:
        pytest.fail(f"/ping says 200, and a request gets no answer: {error}")
    for answer in answers:
        what = "one of the first requests after /ping said 200"
        assert_answered(answer, payload.predictions, image, what)


@pytest.mark.promise("serving.survives_workers")
def test_ready_follows_the_workers(
    serving: Serving, serve: StartServing, image: ImageUnderTest
) -> None:
    """/ping says 200 no longer when all workers are dead, and again when others have loaded."""
    loading = LOADING * image.scale
    server = serve(scriptable(serving), variables={LOAD_SECONDS: str(loading)})
    # Those that answer: where /ping says 200 for the first of them, the others load.
    time.sleep(1.0 * image.scale)
    for _ in range(image.workers):
        signal_worker(server, image, signal.SIGKILL)
    time.sleep(0.5 * image.scale)
    over = time.monotonic() + loading / 3
    while time.monotonic() < over:
        with suppress(requests.RequestException):  # nobody listens: as good as a no
            status = server.get("/ping").status_code
            assert status != HTTPStatus.OK, "/ping says 200, and all workers load their model"
        time.sleep(0.2)
    server.wait_ready()
    assert_answered(server.ask(with_parameters()), SCRIPTED_ANSWER, image, "by new workers")


@pytest.mark.promise("serving.finishes_requests")
def test_requests_in_flight_are_answered(
    serving: Serving, serve: StartServing, image: ImageUnderTest
) -> None:
    """Told to stop, a server has taken eight requests, half of which wait for a worker."""
    each = str(4 // image.workers)
    variables = {CONCURRENCY: each, **_stopping(8, image)}
    server = serve(scriptable(serving), variables=variables)
    pause = 2.0 * image.scale
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = {
            shift: pool.submit(server.ask, with_parameters(pause=pause, shift=float(shift)))
            for shift in range(AT_ONCE)
        }
        time.sleep(1.0 * image.scale)  # they have all been taken, and none is answered yet
        stop(server)
        time.sleep(0.2 * image.scale)
        stop(server)  # whoever is in a hurry asks twice
    for shift, answer in zip(asked, _all_answered(asked.values()), strict=True):
        what = f"request {shift}, answered while the server stops"
        assert_answered(answer, scripted(2.0, float(shift)), image, what)
    _assert_ends_well(server, "it was told to stop")


@pytest.mark.promise("serving.finishes_requests")
def test_uploads_in_flight_are_answered(
    serving: Serving, serve: StartServing, image: ImageUnderTest
) -> None:
    """Told to stop, a server has half of each of eight requests."""
    kind, payload = any_payload(serving)
    server = serve(kind, variables=_stopping(8, image))
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
        what = "a request that was sent in part when the server was told to stop"
        assert_answered(answer, payload.predictions, image, what)
    _assert_ends_well(server, "it was told to stop")


@pytest.mark.promise("serving.finishes_requests")
def test_idle_clients_hold_nothing_up(
    serving: Serving, serve: StartServing, image: ImageUnderTest
) -> None:
    """Neither one that keeps its connection, nor one that never sends its whole request."""
    kind, payload = any_payload(serving)
    server = serve(kind, variables=_stopping(4, image))
    address = (LOOPBACK, int(server.url.rpartition(":")[2]))
    with requests.Session() as kept, socket.create_connection(address) as stalled:
        head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        stalled.sendall(head + b'Content-Length: 100\r\n\r\n{"inputs"')
        answer = kept.post(
            f"{server.url}/invocations",
            payload.body,
            headers={"Content-Type": payload.content_type},
            timeout=60,
        )
        assert_answered(answer, payload.predictions, image)
        stop(server)
        _assert_ends_well(server, "it was told to stop, and one client is idle, one stalled")


@pytest.mark.promise("serving.finishes_requests")
def test_stops_while_the_model_is_loaded(
    serving: Serving, serve: StartServing, image: ImageUnderTest
) -> None:
    kind = scriptable(serving)
    server = serve(kind, wait=False, variables={LOAD_SECONDS: "3600"})
    time.sleep(3 * image.scale)
    stop(server)
    ended(server, "it was told to stop while it loaded its model", WITHIN)


def _stopping(seconds: float, image: ImageUnderTest) -> dict[str, str]:
    """Time for a stop, and little for clients that still come."""
    return {STOP_WAIT: str(seconds * image.scale), DRAIN_WAIT: "0.5"}


def _all_answered(asked: Collection[Future[requests.Response]]) -> list[requests.Response]:
    """The answers to requests that were in flight: each of them got one."""
    failed = [str(one.exception()) for one in asked if one.exception()]
    assert not failed, f"{len(failed)} of {len(asked)} requests got no answer: {failed[0]}"
    return [one.result() for one in asked]


def _assert_ends_well(server: ModelServer, what: str) -> None:
    code = ended(server, what, STOPPED_WITHIN)
    assert code == 0, f"told to stop, it ends with exit code {code} instead of 0"


@pytest.mark.promise("serving.survives_workers")
def test_worker_that_is_killed_costs_no_request(
    serving: Serving, serve: StartServing, image: ImageUnderTest
) -> None:
    """A worker dies at a request, while it answers others."""
    variables = {REQUEST_TIMEOUT: str(20 * image.scale)}
    server = serve(scriptable(serving), variables=variables)
    shifts = map(float, itertools.count())

    def other() -> tuple[str, str, object]:
        shift = next(shifts)
        body = with_parameters(pause=0.05 * image.scale, shift=shift)
        return body, "application/json", scripted(2.0, shift)

    with asking_on(server, image, 4, other):
        for _ in range(DEATHS):
            mark, shift = f"seatrial-{secrets.token_hex(4)}", next(shifts)
            what = "the request at which a worker was killed"
            try:
                answer = server.ask(with_parameters(die_once=mark, shift=shift))
            except requests.RequestException as error:
                pytest.fail(f"{what} got no answer: {error}")
            assert_answered(answer, scripted(2.0, shift), image, what)


@pytest.mark.promise("serving.survives_workers")
def test_worker_that_is_killed_from_outside(
    serving: Serving, serve: StartServing, image: ImageUnderTest
) -> None:
    """Whatever it does at that moment, and more often than there are workers."""
    kind, payload = any_payload(serving)
    begun = time.monotonic()
    server = serve(kind)
    loads = time.monotonic() - begun
    with asking_on(
        server, image, 2, lambda: (payload.body, payload.content_type, payload.predictions)
    ):
        for _ in range(DEATHS):
            signal_worker(server, image, signal.SIGKILL)
            # The next one is among those that had time to load.
            time.sleep(loads)
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
    except OSError:  # another user's, or it has ended
        continue
    if int(name) != 1 and listening & files:
        print(name, flush=True)
        os.kill(int(name), signal.SIGKILL)
"""


@pytest.mark.promise("process.exits_with_server")
@pytest.mark.parametrize("how", [KILL_SERVER, KILL_LISTENER], ids=["all of it", "what listens"])
def test_killed_model_server_ends_the_container(
    serving: Serving, serve: StartServing, how: str, image: ImageUnderTest
) -> None:
    """Unless the first process, which nothing inside can kill, is the server or mends it."""
    kind, payload = any_payload(serving)
    server = serve(kind)
    start = image.contract.start
    done = run_in_container(server.container, start.interpreter, "-c", how, str(start.port))
    assert done.code in (0, KILLED), f"its server can't be killed: {done}"
    if not done.output.split():
        pytest.skip("the server is the container's first process, with which it always ends")
    try:
        code = server.container.wait(timeout=WITHIN * image.scale)["StatusCode"]
    except requests.RequestException:  # what the engine's client makes of the time limit
        what = f"its server was killed, and {WITHIN * image.scale} s later the container still runs"
        try:
            answer = server.ask(payload.body, payload.content_type)
        except requests.RequestException as error:
            pytest.fail(f"{what} without one: {error}")
        assert_answered(answer, payload.predictions, image, what)
        return
    assert code not in (0, 143), f"exit code {code} hides that the server was killed"


@pytest.mark.promise("serving.reports_unloadable")
def test_model_that_cannot_be_loaded_is_reported(
    serving: Serving, serve: StartServing, image: ImageUnderTest
) -> None:
    reason = f"weights are missing {secrets.token_hex(4)}"
    variables = {"SEATRIAL_FAIL_TO_LOAD": reason}
    server = serve(scriptable(serving), wait=False, variables=variables)
    assert_clear_end(server, "its model can't be loaded", reason)
    said = server.logs(1000).count(reason)
    assert said <= AGAIN * image.workers, f"the log says {said} times that it can't be loaded"


@pytest.mark.promise("serving.reports_unloadable")
def test_folder_without_a_model_is_reported(serving: Serving) -> None:
    """As it is where nothing, or another folder, is mounted."""
    kind, _ = any_payload(serving)
    if GIVEN in serving.cases:
        there = run_in_container(
            serving.server(kind).container,
            *(serving.image.contract.start.interpreter, "-c"),
            f"import os; print(os.path.exists('{MODEL_PATH}/MLmodel'))",
        )
        if "True" not in there.output.split():
            pytest.skip(f"the image that was given has its model elsewhere than at {MODEL_PATH}")
    empty = serving.mounted("empty", {"README": b"no model"})
    served = replace(serving.served_image(kind), volume=empty.volume)
    with _alone(serving, served) as server:
        assert_clear_end(server, f"there is no model at {MODEL_PATH}", MODEL_PATH)


@contextmanager
def _alone(serving: Serving, served: ServedImage) -> Iterator[ModelServer]:
    """A server of an image that isn't among those of the models."""
    trial = serving.trial
    server = start_model_server(served, trial.session, trial.fresh_name("alone"), workers=1)
    serving.pool.touch(server)
    try:
        yield server
    finally:
        server.remove()


ANOTHER_PYTHON = "2.7"
UNMET = {"docopt": "docopt==0.6.2", "numpy": "numpy<1", ANOTHER_PYTHON: ""}
"""What an error is to name, and the line that is added to a model's requirements."""


@pytest.mark.promise("serving.refuses_unmet")
@pytest.mark.parametrize("named", UNMET)
def test_model_with_other_requirements_is_refused(serving: Serving, named: str) -> None:
    """Neither tried nevertheless, nor helped by a download: what the image holds was tested."""
    if not serving.files:
        pytest.skip("the image holds its model, with the environment that was made for it")
    files = dict(serving.files[SCRIPTABLE])
    if line := UNMET[named]:
        files["requirements.txt"] += f"\n{line}\n".encode()
    else:
        own = serving.cases[SCRIPTABLE].python.encode()
        for name in ("MLmodel", "python_env.yaml", "conda.yaml"):
            assert own in files[name], f"{name} of the trial's model doesn't say its Python"
            files[name] = files[name].replace(own, f"{ANOTHER_PYTHON}.18".encode())
    with _alone(serving, serving.mounted("unmet", files)) as server:
        assert_clear_end(server, f"the model requires {line or named}", named)


@pytest.mark.promise("process.stops_within")
def test_model_server_stops_on_sigterm(
    serving: Serving, serve: StartServing, promised: Promise
) -> None:
    server = serve(any_payload(serving)[0])
    server.container.kill(signal.SIGTERM)
    code = ended(server, "SIGTERM", int(str(promised.value)))
    assert code in (0, 128 + signal.SIGTERM), f"exit code {code} after SIGTERM"


@pytest.mark.promise("process.reaps_zombies")
def test_orphans_leave_the_process_table_of_a_model_server(
    serving: Serving, image: ImageUnderTest
) -> None:
    assert_reaped(serving.server(any_payload(serving)[0]).container, image)
