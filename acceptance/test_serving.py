"""Models that are served: inside a tracking image, and by images of their own."""

from __future__ import annotations

import json
import secrets
import signal
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from docker.errors import APIError
from prometheus_client.parser import text_string_to_metric_families

from acceptance.endings import KILL_SERVER, START, WITHIN, assert_clear_end, ended
from acceptance.inside import serving as served_inside
from acceptance.models import put_doubling
from acceptance.predictions import assert_answered
from seatrial.stack.confinement import CONFINED_USER
from seatrial.stack.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from seatrial.contract import Promise
    from seatrial.stack.model_server import ModelServer
    from seatrial.stack.subject import Subject
    from seatrial.stack.workplace import Workplace
    from seatrial.trial.serving import Form, Serving

    StartServing = Callable[..., ModelServer]

SCRIPTABLE = "affine"
"""The model that fails and waits when it is told to."""
CONCURRENCY, STOP_WAIT = "MLFLOW_MODELS_CONCURRENCY", "MLFLOW_STOP_WAIT"
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


SCRIPTED_ANSWER = [{"x": 2.0}, {"x": 5.0}, {"x": -8.0}]


@pytest.mark.promise("serving.inputs")
def test_input_gets_its_predictions(serving: Serving, promised: Promise, subject: Subject) -> None:
    kinds = [kind for kind, exam in serving.exams.items() if promised.item in exam.forms]
    if not kinds:
        pytest.skip(f"the model that was given takes no {promised.item}")
    for kind in kinds:
        form = serving.exams[kind].forms[str(promised.item)]
        assert_answered(serving.server(kind).ask(form.body, form.kind), form.predictions, subject)


@pytest.mark.promise("serving.inputs", "params")
def test_parameters_are_of_one_request(serving: Serving, subject: Subject) -> None:
    """Neither of those that are answered meanwhile, nor of those that come later.

    What to expect is reckoned here: an image can't have rounded it.
    """
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
        expected = [{"x": x * (1 / 3) + shift} for x in (1.0, 2.5, -4.0)]
        assert_answered(one.result(), expected, subject)
    for _ in range(subject.workers):
        assert_answered(server.ask(_with_parameters()), SCRIPTED_ANSWER, subject)


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


@pytest.mark.promise("serving.refuses_bad_input")
@pytest.mark.parametrize("fault", NO_INPUTS)
def test_bad_input_is_refused(serving: Serving, fault: str, subject: Subject) -> None:
    """And the next request gets its answer."""
    kind, form = _any(serving)
    server = serving.server(kind)
    answer = server.ask(*NO_INPUTS[fault])
    assert HTTPStatus.BAD_REQUEST <= answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR, (
        f"{fault}: {answer.status_code} {answer.text[:500]}"
    )
    assert_answered(server.ask(form.body, form.kind), form.predictions, subject)


@pytest.mark.promise("serving.ready_when_loaded")
def test_ready_means_loaded(serving: Serving, serve: StartServing, subject: Subject) -> None:
    """The first 200 on /ping comes after the model, whose loading takes its time here."""
    kind = _scriptable(serving)
    loading = LOADING * subject.scale
    begun = time.monotonic()
    server = serve(kind, variables={"SEATRIAL_LOAD_SECONDS": str(loading)})
    ready = time.monotonic() - begun
    assert ready >= loading, f"/ping says 200 after {ready:.1f} s, and the model loads {loading} s"
    asked = time.monotonic()
    assert_answered(server.ask(_with_parameters()), SCRIPTED_ANSWER, subject)
    waited = time.monotonic() - asked
    assert waited < loading, f"after /ping said 200 an answer took {waited:.1f} s"


@pytest.mark.promise("serving.finishes_requests")
def test_requests_in_flight_are_answered(
    serving: Serving, serve: StartServing, subject: Subject
) -> None:
    """Told to stop, a server has taken eight requests, half of which wait for a worker."""
    at_once = str(4 // subject.workers)
    variables = {CONCURRENCY: at_once, STOP_WAIT: str(8 * subject.scale)}
    server = serve(_scriptable(serving), variables=variables)
    body = _with_parameters(pause=2.0 * subject.scale)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(server.ask, body) for _ in range(8)]
        time.sleep(1.0 * subject.scale)  # they have all been taken, and none is answered yet
        server.container.kill(signal.SIGTERM)
        failed = [str(one.exception()) for one in asked if one.exception()]
    assert not failed, f"{len(failed)} of 8 requests got no answer: {failed[0]}"
    for one in asked:
        assert_answered(one.result(), SCRIPTED_ANSWER, subject)
    code = ended(server, "it was told to stop", START)
    assert code == 0, f"it ends with exit code {code}"


@pytest.mark.promise("serving.survives_workers")
def test_worker_that_is_killed_costs_no_request(
    serving: Serving, serve: StartServing, subject: Subject
) -> None:
    """A worker dies at a request, while it answers others."""
    server = serve(_scriptable(serving))
    over = threading.Event()

    def ask_on() -> list[str]:
        faults = []
        while not over.is_set():
            try:
                answer = server.ask(_with_parameters(pause=0.05 * subject.scale))
                assert_answered(answer, SCRIPTED_ANSWER, subject)
            except (requests.RequestException, AssertionError) as error:
                faults.append(str(error))
        return faults

    with ThreadPoolExecutor(5) as pool:
        others = [pool.submit(ask_on) for _ in range(4)]
        try:
            for _ in range(subject.workers):
                mark = f"seatrial-{secrets.token_hex(4)}"
                deadly = pool.submit(server.ask, _with_parameters(die_once=mark))
                assert_answered(deadly.result(), SCRIPTED_ANSWER, subject)
        except requests.RequestException as error:
            pytest.fail(f"the request at which a worker was killed got no answer: {error}")
        finally:
            over.set()
        faults = [fault for other in others for fault in other.result()]
    assert not faults, f"{len(faults)} other requests failed: {faults[0]}"


KILL_LISTENER = """
import os, signal, sys
from pathlib import Path

rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
port = f":{int(sys.argv[1]):04X}"
listening = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == "0A"}
for name in filter(str.isdigit, os.listdir("/proc")):
    if listening & {file.resolve().name for file in Path("/proc", name, "fd").iterdir()}:
        os.kill(int(name), signal.SIGKILL)
"""


@pytest.mark.promise("process.exits_with_server")
@pytest.mark.parametrize("how", [KILL_SERVER, KILL_LISTENER], ids=["all of it", "what listens"])
def test_killed_model_server_ends_the_container(
    serving: Serving, serve: StartServing, how: str, subject: Subject
) -> None:
    kind, _ = _any(serving)
    server = serve(kind)
    start = subject.contract.start
    server.container.exec_run([start.interpreter, "-c", how, str(start.port)])
    code = ended(server, "its server was killed", WITHIN)
    assert code not in (0, 143), f"exit code {code} hides that the server was killed"


@pytest.mark.promise("serving.reports_unloadable")
def test_model_that_cannot_be_loaded_is_reported(serving: Serving, serve: StartServing) -> None:
    reason = f"weights are missing {secrets.token_hex(4)}"
    variables = {"SEATRIAL_FAIL_TO_LOAD": reason}
    server = serve(_scriptable(serving), wait=False, variables=variables)
    assert_clear_end(server, "its model can't be loaded", reason)


TOO_MUCH = 80 * 1024 * 1024


@pytest.mark.promise("serving.limits_requests")
@pytest.mark.parametrize("says", ["its length", "nothing"])
def test_large_request_is_refused(serving: Serving, says: str, subject: Subject) -> None:
    kind, form = _any(serving)
    server = serving.server(kind)

    def parts() -> Iterator[bytes]:
        for _ in range(TOO_MUCH // 65536):
            yield b" " * 65536

    refused_before = server.logs(5000).count(" 413 ")
    body = b" " * TOO_MUCH if says == "its length" else parts()
    try:
        answer = server.ask(body)
    except requests.ConnectionError:
        # Refused before it has sent everything, a client may not get to read the answer.
        answer = None
    if answer is not None:
        assert answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE, (
            f"{TOO_MUCH} bytes: {answer.status_code} {answer.text[:200]}"
        )
    refused = server.logs(5000).count(" 413 ") > refused_before
    assert refused or answer is not None, "no answer, and no word of 413 in the log"
    assert_answered(server.ask(form.body, form.kind), form.predictions, subject)


@pytest.mark.promise("serving.keeps_input_private")
def test_input_is_repeated_nowhere(serving: Serving) -> None:
    kind, _ = _any(serving)
    server = serving.server(kind)
    secret = f"private-{secrets.token_hex(8)}"
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
    }
    for fault, body in bodies.items():
        answer = server.ask(body)
        assert secret not in answer.text, f"{fault}: the answer repeats it: {answer.text[:300]}"
    answer = server.ask(f"x\n{secret}\n", "text/csv")
    assert secret not in answer.text, f"csv: the answer repeats it: {answer.text[:300]}"
    limit = 30 * serving.subject.scale
    answer = requests.post(f"{server.url}/invocations?key={secret}", json={}, timeout=limit)
    assert secret not in answer.text, f"a query: the answer repeats it: {answer.text[:300]}"
    lines = [line for line in server.logs(5000).splitlines() if secret in line]
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


def _counted(server: ModelServer) -> dict[str, float]:
    """Sums over all labels that concern predictions, by name of the sample."""
    answer = server.get("/metrics")
    assert answer.status_code == HTTPStatus.OK, f"/metrics: {answer.status_code}"
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if "/invocations" in sample.labels.values():
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
    try:
        code, output = container.exec_run(words)
    except APIError as error:
        pytest.fail(f"the health check does not run: {error.explanation}")
    assert code == 0, f"the check fails on a server that answers: {output!r}"

    def healthy() -> bool:
        return bool(container.attrs["State"]["Health"]["Status"] == "healthy")

    until(healthy, container=container, what="become healthy", limit=45, every=1)
    if SCRIPTABLE not in serving.exams:
        return
    loading = serve(SCRIPTABLE, wait=False, variables={"SEATRIAL_LOAD_SECONDS": "3600"})

    def answers() -> bool:
        try:
            return bool(loading.get("/ping").status_code)
        except requests.ConnectionError:
            return False

    until(answers, container=loading.container, what="answer at all", limit=30 * subject.scale)
    code, output = loading.container.exec_run(words)
    assert code != 0, f"the check passes while the model is loaded: {output!r}"
