"""Models that are served: inside a tracking image, and by images of their own."""

from __future__ import annotations

import itertools
import json
import math
import secrets
import signal
import socket
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from acceptance.endings import KILL_SERVER, KILLED, WITHIN, assert_clear_end, ended
from acceptance.inside import serving as served_inside
from acceptance.models import put_doubling
from acceptance.predictions import (
    ACROSS_ARCHITECTURES,
    assert_answered,
    difference,
    reckoned,
)
from seatrial.stack.confinement import CONFINED_USER
from seatrial.stack.model_server import MODEL_PATH, start_model_server
from seatrial.stack.oneoff import run_in_container
from seatrial.stack.services import LOOPBACK
from seatrial.stack.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from seatrial.contract import Promise
    from seatrial.stack.model_server import ModelServer, ServedImage
    from seatrial.stack.subject import Subject
    from seatrial.stack.workplace import Workplace
    from seatrial.trial.serving import Form, Serving
    from seatrial.trial.state import Trial

    StartServing = Callable[..., ModelServer]

SCRIPTABLE = "affine"
"""The model that fails and waits when it is told to."""
CONCURRENCY, STOP_WAIT = "MLFLOW_MODELS_CONCURRENCY", "MLFLOW_STOP_WAIT"
LOAD_SECONDS = "SEATRIAL_LOAD_SECONDS"
REQUEST_TIMEOUT = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
AT_ONCE = 8
"""Clients that ask a server at the same time."""
ROWS = 100_000
"""Of one input: two megabytes of JSON."""
DEATHS = 5
"""How often workers are killed: more often than there are."""
LOGGED_WITHIN = 0.5
"""Seconds until what a server says of a request can be read."""
LOADING = 6
"""Seconds that a model takes to load where a test wants to see what comes before."""


@pytest.mark.promise("command_line.serves_models")
def test_models_serve(workplace: Workplace, subject: Subject, tmp_path: Path) -> None:
    """By MLflow's own server, inside the image."""
    model = put_doubling(workplace, tmp_path)
    start = [*subject.configuration.entrypoint, *subject.mlflow_command]
    work = workplace.python(Path(served_inside.__file__).read_text(encoding="utf-8"), model, *start)
    assert work.code == 0, f"a model can't be served: {work}"
    said = json.loads(work.printed.splitlines()[-1])
    answers, log = said["answers"], f"; it said:\n{said['output'][-3000:]}"
    assert answers["ping"][0] == HTTPStatus.OK, f"/ping never said 200: {answers['ping']}{log}"
    for form in ("dataframe_split", "csv"):
        status, text = answers[form]
        assert status == HTTPStatus.OK, f"{form}: {status} {text}{log}"
        assert json.loads(text)["predictions"] == [2, 5, -8], f"{form}: wrong numbers: {text}"
    assert HTTPStatus.BAD_REQUEST <= answers["no JSON"][0] < HTTPStatus.INTERNAL_SERVER_ERROR, (
        f"input that is no JSON: {answers['no JSON']}{log}"
    )
    assert answers["ping at the end"][0] == HTTPStatus.OK, f"bad input ended it{log}"
    stopped = (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert said["code"] in stopped, f"after SIGTERM it ended with {said['code']}{log}"


@pytest.fixture
def serve(serving: Serving) -> Iterator[StartServing]:
    """Start servers for this test alone."""
    started: list[ModelServer] = []

    def start(
        kind: str, *, wait: bool = True, variables: Mapping[str, str] | None = None
    ) -> ModelServer:
        server = serving.launch(kind, environment=variables)
        started.append(server)
        if wait:
            server.wait_ready()
        return server

    yield start
    for server in started:
        server.remove()


def _scriptable(serving: Serving) -> str:
    if SCRIPTABLE not in serving.exams:
        pytest.skip("the model that was given does not fail or wait when it is told to")
    return SCRIPTABLE


def _any(serving: Serving) -> tuple[str, Form]:
    """A kind of model, and an input of it."""
    kind = SCRIPTABLE if SCRIPTABLE in serving.exams else next(iter(serving.exams))
    return kind, next(iter(serving.exams[kind].forms.values()))


def _with_parameters(**parameters: object) -> str:
    """An input of the scriptable model."""
    frame = {"columns": ["x"], "data": [[1.0], [2.5], [-4.0]]}
    return json.dumps({"dataframe_split": frame, "params": parameters})


def _scripted(scale: float, shift: float) -> list[dict[str, float]]:
    """What that model answers, reckoned here: an image can't have rounded it."""
    return [{"x": x * scale + shift} for x in (1.0, 2.5, -4.0)]


SCRIPTED_ANSWER = _scripted(2.0, 0.0)


@pytest.mark.promise("serving.inputs")
def test_input_gets_its_predictions(serving: Serving, promised: Promise, subject: Subject) -> None:
    kinds = [kind for kind, exam in serving.exams.items() if promised.item in exam.forms]
    if not kinds:
        pytest.skip(f"the model that was given takes no {promised.item}")
    for kind in kinds:
        exam, server = serving.exams[kind], serving.server(kind)
        form, what = exam.forms[str(promised.item)], f"{kind}, {promised.item}"
        if own := reckoned(exam, form):
            wrong = difference(form.predictions, own, ACROSS_ARCHITECTURES)
            assert not wrong, f"{what}: the model itself is wrong in Python: {wrong}"
        assert_answered(server.ask(form.body, form.kind), form.predictions, subject, what)
        # An idle server may always take the same worker.
        for answer in _at_once(server, form.body, form.kind):
            assert_answered(answer, form.predictions, subject, f"{what}, {AT_ONCE} at once")


def _at_once(server: ModelServer, *request: str) -> list[requests.Response]:
    """Have as many clients as `AT_ONCE` ask the same."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(server.ask, *request) for _ in range(AT_ONCE)]
    return [one.result() for one in asked]


@pytest.mark.promise("serving.inputs", "dataframe_split")
@pytest.mark.parametrize("says", ["its length", "nothing"])
@pytest.mark.parametrize("rows", [1, ROWS])
def test_any_number_of_rows(serving: Serving, rows: int, says: str, subject: Subject) -> None:
    """In a body of 2 MB as well, sent whole or in chunks."""
    server = serving.server(_scriptable(serving))
    numbers = [number / 7 for number in range(rows)]
    frame = {"columns": ["x"], "data": [[number] for number in numbers]}
    body = json.dumps({"dataframe_split": frame}).encode()
    chunks = (body[start : start + 65536] for start in range(0, len(body), 65536))
    answer = server.ask(body if says == "its length" else chunks)
    expected = [{"x": 2.0 * number} for number in numbers]
    assert_answered(answer, expected, subject, f"{rows} rows in {len(body)} bytes")


KEPT = [
    {
        "number": 2**53 + 1,
        "when": "2026-01-31T23:59:59.123456",
        "word": "na\u00efve \u65e5\u672c",
        "x": 1 / 3,
    },
    {"number": -(2**63), "when": "1969-07-20T20:17:40.000001", "word": "", "x": math.nan},
]
"""Rows with what is lost easily: integers that no double holds, microseconds, missing values."""


@pytest.mark.promise("serving.inputs", "dataframe_split")
def test_values_are_kept(serving: Serving, subject: Subject) -> None:
    """On their way to the model and back, where the signature says their types."""
    server = serving.server(_scriptable(serving))
    frame = {"columns": list(KEPT[0]), "data": [list(row.values()) for row in KEPT]}
    body = json.dumps({"dataframe_split": frame, "params": {"scale": 1.0}})
    answer = server.ask(body.replace("NaN", "null"))
    assert_answered(answer, KEPT, subject, "integers, dates, text and missing values")


@pytest.mark.promise("serving.inputs", "dataframe_split")
def test_charset_may_be_named(serving: Serving, subject: Subject) -> None:
    kind, form = _any(serving)
    answer = serving.server(kind).ask(form.body, f"{form.kind}; charset=utf-8")
    assert_answered(answer, form.predictions, subject, f"{form.kind}; charset=utf-8")
    found = answer.headers.get("Content-Type", "")
    assert found.startswith("application/json"), f"the answer's content type is {found!r}"


@pytest.mark.promise("serving.inputs", "params")
def test_parameters_are_of_one_request(serving: Serving, subject: Subject) -> None:
    """Neither of those that are answered meanwhile, nor of those that come later."""
    server = serving.server(_scriptable(serving))
    shifts = [0.1, 0.2, 0.3, 0.4]
    with ThreadPoolExecutor(len(shifts)) as pool:
        asked = {
            shift: pool.submit(
                server.ask,
                # The later ones are answered first.
                _with_parameters(scale=1 / 3, shift=shift, pause=(1 - 2 * shift) * subject.scale),
            )
            for shift in shifts
        }
    for shift, one in asked.items():
        assert_answered(one.result(), _scripted(1 / 3, shift), subject, f"shifted by {shift}")
    for answer in _at_once(server, _with_parameters()):
        assert_answered(answer, SCRIPTED_ANSWER, subject, "without parameters, afterwards")


NO_INPUTS: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "application/json"),
    "no JSON": ("{", "application/json"),
    "a number": ("7", "application/json"),
    "an unknown key": ('{"rows": [[1]]}', "application/json"),
    "two keys": ('{"inputs": [1], "instances": [1]}', "application/json"),
    "text for a number": ('{"dataframe_records": [{"x": "one"}]}', "application/json"),
    "a missing column": (
        '{"dataframe_split": {"columns": ["y"], "data": [[1]]}}',
        "application/json",
    ),
    "another content type": ("<x>1</x>", "application/xml"),
    "bytes that are no text": (b"\xff\xfe\x00", "text/csv"),
}


OF_COLUMN_X = ("text for a number", "a missing column")
"""What is wrong for a model with a signature that has this column of numbers."""


@pytest.mark.promise("serving.refuses_bad_input")
@pytest.mark.parametrize("fault", NO_INPUTS)
def test_bad_input_is_refused(serving: Serving, fault: str, subject: Subject) -> None:
    """And the next request gets its answer."""
    kind, form = _any(serving)
    if fault in OF_COLUMN_X and kind != SCRIPTABLE:
        pytest.skip("the model that was given may take this")
    server = serving.server(kind)
    try:
        answer = server.ask(*NO_INPUTS[fault])
    except requests.RequestException as error:
        pytest.fail(f"{fault}: no answer, where 4xx is due: {error}")
    assert HTTPStatus.BAD_REQUEST <= answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR, (
        f"{fault}: {answer.status_code}, where 4xx is due: {answer.text[:500]}"
    )
    assert_answered(server.ask(form.body, form.kind), form.predictions, subject, f"after {fault}")


@pytest.mark.promise("serving.ready_when_loaded")
def test_ready_means_loaded(serving: Serving, serve: StartServing, subject: Subject) -> None:
    """The first 200 on /ping comes after the model, whose loading takes its time here."""
    kind = _scriptable(serving)
    loading = LOADING * subject.scale
    begun = time.monotonic()
    server = serve(kind, variables={LOAD_SECONDS: str(loading)})
    ready = time.monotonic() - begun
    assert ready >= loading, f"/ping says 200 after {ready:.1f} s, and the model loads {loading} s"
    asked = time.monotonic()
    assert_answered(server.ask(_with_parameters()), SCRIPTED_ANSWER, subject)
    waited = time.monotonic() - asked
    assert waited < loading, f"after /ping said 200 an answer took {waited:.1f} s"


@pytest.mark.promise("serving.ready_when_loaded")
def test_first_answer_after_ready(serving: Serving, serve: StartServing, subject: Subject) -> None:
    """Of eight at once: whichever worker takes them."""
    kind, form = _any(serving)
    server = serve(kind)
    try:
        answers = _at_once(server, form.body, form.kind)
    except requests.RequestException as error:
        pytest.fail(f"/ping says 200, and a request gets no answer: {error}")
    for answer in answers:
        what = "one of the first requests after /ping said 200"
        assert_answered(answer, form.predictions, subject, what)


@pytest.mark.promise("serving.paths")
def test_path_is_answered(
    serving: Serving, serve: StartServing, promised: Promise, subject: Subject
) -> None:
    """With the truth: /health while a model is loaded, and the version that is installed."""
    path = str(promised.item)
    server = serving.server(_any(serving)[0])
    answer = server.get(path)
    assert answer.status_code == HTTPStatus.OK, f"{path}: {answer.status_code}"
    if path == "/version":
        script = "import mlflow; print(mlflow.__version__)"
        asked = run_in_container(server.container, subject.contract.start.interpreter, "-c", script)
        assert asked.code == 0, f"the image's Python has no MLflow: {asked}"
        said, there = answer.text.strip().strip('"'), asked.output.split()[-1]
        assert said == there, f"/version says {said}, and MLflow {there} is installed"
    if path != "/health" or SCRIPTABLE not in serving.exams:
        return
    loading = serve(SCRIPTABLE, wait=False, variables={LOAD_SECONDS: "3600"})
    for _ in range(3):
        time.sleep(1 * subject.scale)
        with suppress(requests.RequestException):  # nobody listens yet
            early = loading.get(path).status_code
            assert early != HTTPStatus.OK, f"{path} says 200 while the model is loaded"


@pytest.mark.promise("serving.finishes_requests")
def test_requests_in_flight_are_answered(
    serving: Serving, serve: StartServing, subject: Subject
) -> None:
    """Told to stop, a server has taken eight requests, half of which wait for a worker."""
    at_once = str(4 // subject.workers)
    variables = {CONCURRENCY: at_once, STOP_WAIT: str(8 * subject.scale)}
    server = serve(_scriptable(serving), variables=variables)
    pause = 2.0 * subject.scale
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = {
            shift: pool.submit(server.ask, _with_parameters(pause=pause, shift=float(shift)))
            for shift in range(AT_ONCE)
        }
        time.sleep(1.0 * subject.scale)  # they have all been taken, and none is answered yet
        _stop(server)
        time.sleep(0.2 * subject.scale)
        _stop(server)  # whoever is in a hurry asks twice
        failed = [str(one.exception()) for one in asked.values() if one.exception()]
    assert not failed, f"{len(failed)} of {AT_ONCE} requests got no answer: {failed[0]}"
    for shift, one in asked.items():
        what = f"request {shift}, answered while the server stops"
        assert_answered(one.result(), _scripted(2.0, float(shift)), subject, what)
    _assert_ends_well(server, "it was told to stop")


@pytest.mark.promise("serving.finishes_requests")
def test_uploads_in_flight_are_answered(
    serving: Serving, serve: StartServing, subject: Subject
) -> None:
    """Told to stop, a server has half of each of eight requests."""
    kind, form = _any(serving)
    server = serve(kind, variables={STOP_WAIT: str(8 * subject.scale)})
    body, go_on = form.body.encode(), threading.Event()

    def halves() -> Iterator[bytes]:
        yield body[: len(body) // 2]
        go_on.wait()
        yield body[len(body) // 2 :]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(server.ask, halves(), form.kind) for _ in range(AT_ONCE)]
        time.sleep(1.0 * subject.scale)
        _stop(server)
        time.sleep(0.2 * subject.scale)
        go_on.set()
        failed = [str(one.exception()) for one in asked if one.exception()]
    assert not failed, f"{len(failed)} of {AT_ONCE} uploads got no answer: {failed[0]}"
    for one in asked:
        what = "a request that was sent in part when the server was told to stop"
        assert_answered(one.result(), form.predictions, subject, what)
    _assert_ends_well(server, "it was told to stop")


@pytest.mark.promise("serving.finishes_requests")
def test_idle_clients_hold_nothing_up(
    serving: Serving, serve: StartServing, subject: Subject
) -> None:
    """Neither one that keeps its connection, nor one that never sends its whole request."""
    kind, form = _any(serving)
    server = serve(kind, variables={STOP_WAIT: str(4 * subject.scale)})
    address = (LOOPBACK, int(server.url.rpartition(":")[2]))
    with requests.Session() as kept, socket.create_connection(address) as stalled:
        head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        stalled.sendall(head + b'Content-Length: 100\r\n\r\n{"inputs"')
        answer = kept.post(
            f"{server.url}/invocations", form.body, headers={"Content-Type": form.kind}, timeout=60
        )
        assert_answered(answer, form.predictions, subject)
        _stop(server)
        _assert_ends_well(server, "it was told to stop, and one client is idle, one stalled")


@pytest.mark.promise("serving.finishes_requests")
def test_stops_while_the_model_is_loaded(
    serving: Serving, serve: StartServing, subject: Subject
) -> None:
    kind = _scriptable(serving)
    server = serve(kind, wait=False, variables={LOAD_SECONDS: "3600"})
    time.sleep(3 * subject.scale)
    _stop(server)
    ended(server, "it was told to stop while it loaded its model", WITHIN)


def _assert_ends_well(server: ModelServer, what: str) -> None:
    code = ended(server, what, WITHIN)
    assert code == 0, f"told to stop, it ends with exit code {code} instead of 0"


def _stop(server: ModelServer) -> None:
    """As `docker stop` does it."""
    server.container.kill(server.container.attrs["Config"].get("StopSignal") or signal.SIGTERM)


@contextmanager
def _asking_on(
    server: ModelServer, subject: Subject, clients: int, ask: Callable[[], tuple[str, str, object]]
) -> Iterator[None]:
    """Have clients ask meanwhile without a pause, and get all their answers.

    Args:
        server: which one.
        subject: what it is of.
        clients: how many.
        ask: gives body, content type and predictions of the next request.
    """
    over = threading.Event()

    def ask_on() -> list[str]:
        faults = []
        while not over.is_set():
            body, kind, expected = ask()
            try:
                assert_answered(server.ask(body, kind), expected, subject)
            except (requests.RequestException, AssertionError) as error:
                faults.append(str(error))
        return faults

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask_on) for _ in range(clients)]
        try:
            yield
        finally:
            over.set()
        faults = [fault for one in asking for fault in one.result()]
    assert not faults, f"{len(faults)} other requests failed: {faults[0]}"


@pytest.mark.promise("serving.survives_workers")
def test_worker_that_is_killed_costs_no_request(
    serving: Serving, serve: StartServing, subject: Subject
) -> None:
    """A worker dies at a request, while it answers others."""
    variables = {REQUEST_TIMEOUT: str(20 * subject.scale)}
    server = serve(_scriptable(serving), variables=variables)
    shifts = map(float, itertools.count())

    def other() -> tuple[str, str, object]:
        shift = next(shifts)
        body = _with_parameters(pause=0.05 * subject.scale, shift=shift)
        return body, "application/json", _scripted(2.0, shift)

    with _asking_on(server, subject, 4, other):
        for _ in range(DEATHS):
            mark, shift = f"seatrial-{secrets.token_hex(4)}", next(shifts)
            what = "the request at which a worker was killed"
            try:
                answer = server.ask(_with_parameters(die_once=mark, shift=shift))
            except requests.RequestException as error:
                pytest.fail(f"{what} got no answer: {error}")
            assert_answered(answer, _scripted(2.0, shift), subject, what)


KILL_WORKER = """
import os, signal
from pathlib import Path

rows = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat")]
parents = {int(row.rpartition(")")[2].split()[1]) for row in rows}
for name in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
    if int(name) in parents | {1, os.getpid()}:
        continue
    if "numpy" in Path("/proc", name, "maps").read_text():
        os.kill(int(name), signal.SIGKILL)
        print(name)
        break
"""
"""Kills a process that holds the model: one with NumPy, and without children."""


@pytest.mark.promise("serving.survives_workers")
def test_worker_that_is_killed_from_outside(
    serving: Serving, serve: StartServing, subject: Subject
) -> None:
    """Whatever it does at that moment, and more often than there are workers."""
    kind, form = _any(serving)
    server = serve(kind)
    with _asking_on(server, subject, 2, lambda: (form.body, form.kind, form.predictions)):
        for _ in range(DEATHS):
            interpreter = subject.contract.start.interpreter
            killed = run_in_container(server.container, interpreter, "-c", KILL_WORKER)
            assert killed.code == 0, f"no worker can be killed: {killed}"
            assert killed.output.split(), "no process of the container holds the model"
            time.sleep(1.0 * subject.scale)


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
    serving: Serving, serve: StartServing, how: str, subject: Subject
) -> None:
    """Unless the first process, which nothing inside can kill, is the server or mends it."""
    kind, form = _any(serving)
    server = serve(kind)
    start = subject.contract.start
    done = run_in_container(server.container, start.interpreter, "-c", how, str(start.port))
    assert done.code in (0, KILLED), f"its server can't be killed: {done}"
    if not done.output.split():
        pytest.skip("the server is the container's first process, with which it always ends")
    try:
        code = server.container.wait(timeout=WITHIN * subject.scale)["StatusCode"]
    except requests.RequestException:  # what the engine's client makes of the time limit
        what = (
            f"its server was killed, and {WITHIN * subject.scale} s later the container still runs"
        )
        try:
            answer = server.ask(form.body, form.kind)
        except requests.RequestException as error:
            pytest.fail(f"{what} without one: {error}")
        assert_answered(answer, form.predictions, subject, what)
        return
    assert code not in (0, 143), f"exit code {code} hides that the server was killed"


@pytest.mark.promise("serving.reports_unloadable")
def test_model_that_cannot_be_loaded_is_reported(serving: Serving, serve: StartServing) -> None:
    reason = f"weights are missing {secrets.token_hex(4)}"
    variables = {"SEATRIAL_FAIL_TO_LOAD": reason}
    server = serve(_scriptable(serving), wait=False, variables=variables)
    assert_clear_end(server, "its model can't be loaded", reason)


@pytest.mark.promise("serving.reports_unloadable")
def test_folder_without_a_model_is_reported(serving: Serving, trial: Trial) -> None:
    """As it is where nothing, or another folder, is mounted."""
    kind, _ = _any(serving)
    empty = serving.mounted("empty", {"README": b"no model"})
    image = replace(serving.image(kind), volume=empty.volume)
    with _alone(trial, image) as server:
        assert_clear_end(server, f"there is no model at {MODEL_PATH}", MODEL_PATH)


@contextmanager
def _alone(trial: Trial, image: ServedImage) -> Iterator[ModelServer]:
    """A server of an image that isn't among those of the models."""
    server = start_model_server(image, trial.session, trial.fresh_name("alone"), workers=1)
    trial.touch(server)
    try:
        yield server
    finally:
        server.remove()


ANOTHER_PYTHON = "2.7"
UNMET = {"docopt": "docopt==0.6.2", "numpy": "numpy<1", ANOTHER_PYTHON: ""}
"""What an error is to name, and the line that is added to a model's requirements."""


@pytest.mark.promise("serving.refuses_unmet")
@pytest.mark.parametrize("named", UNMET)
def test_model_with_other_requirements_is_refused(
    serving: Serving, trial: Trial, named: str
) -> None:
    """Neither tried nevertheless, nor helped by a download: what the image holds was tested."""
    if not serving.files:
        pytest.skip("the image holds its model, with the environment that was made for it")
    files = dict(serving.files[SCRIPTABLE])
    if line := UNMET[named]:
        files["requirements.txt"] += f"\n{line}\n".encode()
    else:
        own = serving.exams[SCRIPTABLE].python.encode()
        for name in ("MLmodel", "python_env.yaml", "conda.yaml"):
            assert own in files[name], f"{name} of the trial's model doesn't say its Python"
            files[name] = files[name].replace(own, f"{ANOTHER_PYTHON}.18".encode())
    with _alone(trial, serving.mounted("unmet", files)) as server:
        assert_clear_end(server, f"the model requires {line or named}", named)


MIB = 1 << 20


def _settled_log(server: ModelServer) -> str:
    """With what was written a moment ago: servers may collect lines, and engines do."""
    time.sleep(LOGGED_WITHIN)
    return server.logs(5000)


def _blanks(size: int, says: str) -> bytes | Iterator[bytes]:
    """Which JSON may begin with."""
    if says == "its length":
        return b" " * size
    return (b" " * min(65536, size - start) for start in range(0, size, 65536))


@pytest.mark.promise("serving.limits_requests")
@pytest.mark.parametrize("says", ["its length", "nothing"])
def test_large_request_is_refused(
    serving: Serving, promised: Promise, says: str, subject: Subject
) -> None:
    kind, form = _any(serving)
    server = serving.server(kind)
    size = int(str(promised.value)) * MIB * 5 // 4
    refused_before = _settled_log(server).count(" 413 ")
    try:
        answer = server.ask(_blanks(size, says))
    except requests.ConnectionError:
        # Refused before it has sent everything, a client may not get to read the answer.
        answer = None
    if answer is not None:
        assert answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE, (
            f"{size} bytes: {answer.status_code} {answer.text[:200]}"
        )
    refused = _settled_log(server).count(" 413 ") > refused_before
    assert refused or answer is not None, "no answer, and no word of 413 in the log"
    assert_answered(server.ask(form.body, form.kind), form.predictions, subject)


@pytest.mark.promise("serving.limits_requests")
@pytest.mark.parametrize("says", ["its length", "nothing"])
def test_request_below_the_limit_is_answered(
    serving: Serving, promised: Promise, says: str, subject: Subject
) -> None:
    kind, form = _any(serving)
    if form.kind != "application/json":
        pytest.skip("the model that was given takes no JSON, which can be made longer")
    size = int(str(promised.value)) * MIB * 3 // 4
    blanks, end = _blanks(size - len(form.body), says), form.body.encode()
    body = blanks + end if isinstance(blanks, bytes) else itertools.chain(blanks, [end])
    answer = serving.server(kind).ask(body, form.kind)
    assert_answered(answer, form.predictions, subject, f"{size} bytes")


@pytest.mark.promise("serving.keeps_input_private")
def test_input_is_repeated_nowhere(serving: Serving) -> None:
    kind, _ = _any(serving)
    server = serving.server(kind)
    secret, number = f"private-{secrets.token_hex(8)}", secrets.randbelow(10**12) + 10**12
    bodies = {
        "text for a number": json.dumps({"dataframe_records": [{"x": secret}]}),
        "an unknown column": json.dumps({"dataframe_split": {"columns": [secret], "data": [[1]]}}),
        "an unknown key": json.dumps({secret: [1]}),
        "no JSON": f'{{"inputs": "{secret}"',
        "a bad parameter": _with_parameters(scale=secret),
        "a column too many": json.dumps(
            {"dataframe_split": {"columns": ["x", secret], "data": [[1.0, 2.0]]}}
        ),
        "a tensor of text": json.dumps({"inputs": {"x": [secret]}}),
        "a number in another column": json.dumps({"dataframe_records": [{"y": number}]}),
        "a number in a list": json.dumps({"inputs": {"x": {"deep": [number]}}}),
        "what the model fails at": _with_parameters(die_once=f"nowhere/{secret}"),
        "good input": json.dumps({"dataframe_split": {"columns": ["x"], "data": [[number]]}}),
    }
    answers: dict[str, requests.Response] = {}
    for fault, body in bodies.items():
        answers[fault] = server.ask(body)
    answers["csv"] = server.ask(f"x\n{secret}\n", "text/csv")
    answers["a content type"] = server.ask("{}", f"text/{secret}")
    limit = 30 * serving.subject.scale
    for fault, path in (("a query", f"/invocations?key={secret}"), ("a path", f"/{secret}")):
        answers[fault] = requests.post(f"{server.url}{path}", json={}, timeout=limit)
    repeating = [
        f"{fault}: {answer.text[:300]}"
        for fault, answer in answers.items()
        if secret in answer.text or str(number) in answer.text
    ]
    assert not repeating, f"the answer repeats the input: {repeating[0]}"
    lines = [
        line
        for line in _settled_log(server).splitlines()
        for known in (secret, str(number), str(2 * number))
        if known in line
    ]
    assert not lines, f"the log repeats the input: {lines[0][:300]}"


@pytest.mark.promise("serving.answers_at_once")
@pytest.mark.native
def test_kept_connection_is_no_slower_than_a_new_one(serving: Serving) -> None:
    """Where TCP holds small answers back it does so for 40 ms, but not on a new connection."""
    kind, form = _any(serving)
    server = serving.server(kind)
    url, kinds = f"{server.url}/invocations", {"Content-Type": form.kind}

    def seconds(post: Callable[..., requests.Response]) -> float:
        begun = time.perf_counter()
        post(url, data=form.body, headers=kinds, timeout=30).raise_for_status()
        return time.perf_counter() - begun

    with requests.Session() as session:
        seconds(session.post)
        kept = statistics.median(seconds(session.post) for _ in range(25))
        new = statistics.median(seconds(requests.post) for _ in range(25))
    assert kept < 2 * new, (
        f"{kept * 1000:.0f} ms on a kept connection, {new * 1000:.0f} on new ones"
    )


@pytest.mark.promise("serving.metrics")
def test_metrics_count_requests(serving: Serving) -> None:
    kind, form = _any(serving)
    server = serving.server(kind)
    before, times = _counted(server), 5
    for _ in range(times):
        server.ask(form.body, form.kind).raise_for_status()
    after = _counted(server)
    grown = {name for name, value in after.items() if value - before.get(name, 0) == times}
    assert any(name.endswith("_total") for name in grown), f"no counter has risen by {times}"
    assert any(name.endswith("_count") for name in grown), f"no histogram has risen by {times}"
    assert any(
        name.endswith("_seconds_sum") and value > before.get(name, 0)
        for name, value in after.items()
    ), "predictions take no time"


@pytest.mark.promise("serving.metrics")
def test_metrics_tell_failures_apart(serving: Serving) -> None:
    kind, _ = _any(serving)
    server = serving.server(kind)
    before, times = _counted(server, "4"), 3
    for _ in range(times):
        assert server.ask("{").status_code == HTTPStatus.BAD_REQUEST
    after = _counted(server, "4")
    grown = [name for name, value in after.items() if value - before.get(name, 0) == times]
    assert grown, f"nothing with a label of 4xx has risen by {times}"


@pytest.mark.promise("serving.metrics")
def test_metrics_measure_seconds(serving: Serving, subject: Subject) -> None:
    server = serving.server(_scriptable(serving))
    before, pause = _counted(server), 0.5 * subject.scale
    server.ask(_with_parameters(pause=pause)).raise_for_status()
    grown = {
        name: value - before.get(name, 0)
        for name, value in _counted(server).items()
        if name.endswith("_seconds_sum")
    }
    assert any(pause <= value < 10 * pause for value in grown.values()), (
        f"a prediction of {pause} s has raised {grown}"
    )


def _counted(server: ModelServer, status: str = "") -> dict[str, float]:
    """Sums over all labels that concern predictions, by name of the sample.

    Args:
        server: whose.
        status: what a label must begin with; empty for any.
    """
    answer = server.get("/metrics")
    assert answer.status_code == HTTPStatus.OK, f"/metrics: {answer.status_code}"
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            values = sample.labels.values()
            if "/invocations" in values and any(one.startswith(status) for one in values):
                sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums


@pytest.mark.promise("process.confined")
def test_serves_models_confined(serving: Serving, subject: Subject) -> None:
    kind, form = _any(serving)
    server = serving.server(kind)
    server.container.reload()
    configuration, host = server.container.attrs["Config"], server.container.attrs["HostConfig"]
    assert configuration["User"] == CONFINED_USER
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert_answered(server.ask(form.body, form.kind), form.predictions, subject)


@pytest.mark.promise("image.user")
def test_model_server_runs_as_its_user(serving: Serving, promised: Promise) -> None:
    """What the image says; no process of a server is root's."""
    kind, _ = _any(serving)
    assert serving.subject.configuration.user == promised.value
    top = serving.server(kind).container.top(ps_args="-eo pid,uid,args")
    roots = [row for row in top["Processes"] if int(row[1]) == 0]
    assert not roots, f"run by root: {roots}"


@pytest.mark.promise("image.healthcheck")
def test_model_server_is_healthy(serving: Serving, serve: StartServing, subject: Subject) -> None:
    """Once its model is loaded."""
    kind, _ = _any(serving)
    container = serving.server(kind).container
    how, *words = subject.configuration.healthcheck or ("NONE",)
    assert how == "CMD", f"the health check is {how}, not a command without a shell"
    checked = run_in_container(container, *words)
    assert checked.code == 0, f"the check fails on a server that answers: {checked}"

    def healthy() -> bool:
        return bool(container.attrs["State"]["Health"]["Status"] == "healthy")

    until(healthy, container=container, what="become healthy", limit=45, every=1)
    if SCRIPTABLE not in serving.exams:
        return
    loading = serve(SCRIPTABLE, wait=False, variables={LOAD_SECONDS: "3600"})

    for _ in range(3):
        time.sleep(1 * subject.scale)
        checked = run_in_container(loading.container, *words)
        assert checked.code != 0, f"the check passes while the model is loaded: {checked}"
