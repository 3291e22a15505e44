"""Operating a model's server: its paths beside predictions, metrics, users, health checks."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from seatrial.stack.confinement import CONFINED_USER, OTHER_USER
from seatrial.stack.run_container import run_in_container

from .comparisons import assert_equal
from .health_checks import wait_healthy
from .predictions import assert_predicts
from .serving import (
    AT_ONCE,
    LOAD_SECONDS,
    LOADING,
    SCRIPTABLE,
    at_once,
    with_parameters,
)

if TYPE_CHECKING:
    from seatrial.contract import Promise
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.model_server import ModelServer

    from .serving import ServedSample, StartServer

HOST = "MLFLOW_MODELS_HOST"
COUNTED_WITHIN = 0.5
"""Seconds after its answer in which a request may still be counted."""


@pytest.mark.promise("serving.paths")
def test_path_is_answered(
    sample_server: ModelServer,
    sample: ServedSample,
    serve_sample: StartServer,
    promised: Promise,
    image: ImageUnderTest,
) -> None:
    """/version tells the installed MLflow, and /health fails while the model still loads."""
    path = str(promised.item)
    answer = sample_server.get(path)
    assert answer.status_code == HTTPStatus.OK, (
        f"GET {path} is answered with {answer.status_code}: {answer.text[:200]}"
    )
    if path == "/version":
        script = "import mlflow; print(mlflow.__version__)"
        outcome = run_in_container(
            sample_server.container, image.contract.start.interpreter, "-c", script
        )
        assert outcome.code == 0, f"the image's Python has no MLflow: {outcome}"
        told, installed = answer.text.strip().strip('"'), outcome.output.split()[-1]
        assert told == installed, f"/version says {told}, and MLflow {installed} is installed"
    if path != "/health" or sample.model != SCRIPTABLE:
        return
    loading = LOADING * image.scale
    begun = time.monotonic()
    starting = serve_sample(wait=False, variables={LOAD_SECONDS: str(loading)})
    starting.wait_for(path)
    ready = time.monotonic() - begun
    assert ready >= loading, f"{path} says 200 after {ready:.1f} s; the model loads {loading} s"


@pytest.mark.promise("serving.metrics")
def test_metrics_count_requests(sample_server: ModelServer, sample: ServedSample) -> None:
    before, rounds = _counted(sample_server), 5
    for _ in range(rounds):
        for answer in at_once(sample_server, sample.payload):
            answer.raise_for_status()
    time.sleep(COUNTED_WITHIN * sample_server.image.scale)
    # Whichever process answers /metrics, the numbers are the whole server's.
    with ThreadPoolExecutor(AT_ONCE) as pool:
        seen = list(pool.map(lambda _: _counted(sample_server), range(4 * AT_ONCE)))
    times = rounds * AT_ONCE
    for after in seen:
        grown = {name for name, value in after.items() if value - before.get(name, 0) == times}
        case = f"{times} predictions were asked for, and in /metrics"
        assert any(name.endswith("_total") for name in grown), (
            f"{case} no counter has risen by {times}, but only {grown}"
        )
        assert any(name.endswith("_count") for name in grown), (
            f"{case} no histogram has risen by {times}, but only {grown}"
        )
        assert any(
            name.endswith("_seconds_sum") and value > before.get(name, 0)
            for name, value in after.items()
        ), f"{case} no sum of seconds has risen"


@pytest.mark.promise("serving.metrics")
def test_metrics_tell_failures_apart(sample_server: ModelServer) -> None:
    before, times = _counted(sample_server, "4"), 3
    for _ in range(times):
        status = sample_server.ask("{").status_code
        assert status == HTTPStatus.BAD_REQUEST, (
            f"input that is no JSON is answered with {status} instead of 400"
        )
    time.sleep(COUNTED_WITHIN * sample_server.image.scale)
    after = _counted(sample_server, "4")
    grown = [name for name, value in after.items() if value - before.get(name, 0) == times]
    assert grown, (
        f"{times} requests got 400, and in /metrics no sample with a label of 4xx has risen by"
        f" {times}: before {before}, after {after}"
    )


@pytest.mark.promise("serving.metrics")
def test_metrics_measure_seconds(scriptable_server: ModelServer, image: ImageUnderTest) -> None:
    before, pause = _counted(scriptable_server), 0.5 * image.scale
    scriptable_server.ask(with_parameters(pause=pause)).raise_for_status()
    time.sleep(COUNTED_WITHIN * image.scale)
    grown = {
        name: value - before.get(name, 0)
        for name, value in _counted(scriptable_server).items()
        if name.endswith("_seconds_sum")
    }
    assert any(pause <= value < 10 * pause for value in grown.values()), (
        f"a prediction took {pause} s, and in /metrics the sums of seconds have risen by {grown}"
    )


def _counted(server: ModelServer, status: str = "") -> dict[str, float]:
    """Read /metrics, and add up the samples whose labels concern predictions, by name.

    Args:
        server: what is asked.
        status: the beginning of a label; empty for any.
    """
    answer = server.get("/metrics")
    assert answer.status_code == HTTPStatus.OK, (
        f"GET /metrics is answered with {answer.status_code}: {answer.text[:200]}"
    )
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            values = sample.labels.values()
            if "/invocations" in values and any(label.startswith(status) for label in values):
                sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums


PING = """
import http.client, socket, sys, time

try:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
except OSError as error:
    sys.exit(f"no IPv6: {error}")
port, seconds, *hosts = sys.argv[1:]
deadline = time.monotonic() + float(seconds)
for host in hosts:
    answer = None
    while answer != 200 and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            connection.request("GET", "/ping")
            answer = connection.getresponse().status
        except OSError as error:
            answer = error
        connection.close()
        time.sleep(0 if answer == 200 else 0.2)
    print(f"{host} says {answer}")
    if answer != 200:
        sys.exit(1)
"""
"""Ask /ping inside the container, where the loopback has IPv6 though its network may have none."""


def _assert_answers_at(server: ModelServer, seconds: float, *hosts: str) -> None:
    """Require that /ping says 200 at each of these addresses of the container within seconds."""
    start = server.image.contract.start
    arguments = (str(start.port), str(seconds * server.image.scale), *hosts)
    asked = run_in_container(server.container, start.interpreter, "-c", PING, *arguments)
    if "no IPv6" in asked.output:
        pytest.skip(f"this engine's containers have no IPv6 on their loopback: {asked.output}")
    assert asked.code == 0, f"/ping is not answered: {asked}; its log:\n{server.logs(20)}"


@pytest.mark.promise("serving.listens_on_ipv6")
def test_ipv6_beside_ipv4(sample_server: ModelServer) -> None:
    _assert_answers_at(sample_server, 10, "127.0.0.1", "::1")


@pytest.mark.promise("serving.listens_on_ipv6")
def test_ipv6_alone(serve_sample: StartServer, image: ImageUnderTest) -> None:
    """The health check asks by IPv6 as well."""
    server = serve_sample(wait=False, variables={HOST: "::"})
    _assert_answers_at(server, image.contract.start.ready_within, "::1")
    form, *command = image.configuration.healthcheck or ("NONE",)
    if form == "CMD":
        checked = run_in_container(server.container, *command)
        assert checked.code == 0, f"the health check fails on a server of IPv6 alone: {checked}"


@pytest.mark.promise("process.confined")
def test_serves_models_confined(sample_server: ModelServer, sample: ServedSample) -> None:
    sample_server.container.reload()
    attributes = sample_server.container.attrs
    configuration, host = attributes["Config"], attributes["HostConfig"]
    assert_equal(
        "the confinement of the trial's own container (user, read-only root, dropped capabilities)",
        (configuration["User"], host["ReadonlyRootfs"], host["CapDrop"]),
        (CONFINED_USER, True, ["ALL"]),
    )
    assert_predicts(sample_server, sample.payload)


@pytest.mark.promise("process.arbitrary_user")
def test_serves_models_as_another_user(serve_sample: StartServer, sample: ServedSample) -> None:
    server = serve_sample(user=OTHER_USER)
    users = {row[1] for row in server.container.top(ps_args="-eo pid,uid,args")["Processes"]}
    assert users == {OTHER_USER.partition(":")[0]}, (
        f"the container was started as {OTHER_USER}, and its processes run as {users}"
    )
    assert_predicts(server, sample.payload)


@pytest.mark.promise("image.user")
def test_model_server_runs_as_its_user(
    image: ImageUnderTest, promised: Promise, sample_server: ModelServer
) -> None:
    """The image names the promised user, and no process of a server is root's."""
    configured = image.configuration.user
    assert configured == promised.value, (
        f"the image names the user {configured!r}; its contract promises {promised.value!r}"
    )
    top = sample_server.container.top(ps_args="-eo pid,uid,args")
    roots = [row for row in top["Processes"] if int(row[1]) == 0]
    assert not roots, f"the model's server has processes of root (pid, uid, command): {roots}"


@pytest.mark.promise("image.healthcheck")
def test_model_server_is_healthy(
    sample_server: ModelServer,
    sample: ServedSample,
    serve_sample: StartServer,
    image: ImageUnderTest,
) -> None:
    """The health check passes once the model is loaded, and not before."""
    form, *command = image.configuration.healthcheck or ("NONE",)
    assert form == "CMD", f"the image's health check is {form}, not a command without a shell"
    checked = run_in_container(sample_server.container, *command)
    assert checked.code == 0, f"the health check fails beside a server that answers: {checked}"
    wait_healthy(sample_server.container)

    if sample.model != SCRIPTABLE:
        return
    loading = serve_sample(wait=False, variables={LOAD_SECONDS: "3600"})
    for _ in range(3):
        time.sleep(1 * image.scale)
        checked = run_in_container(loading.container, *command)
        assert checked.code != 0, (
            f"the health check passes while the server still loads its model: {checked}"
        )
