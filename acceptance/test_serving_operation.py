"""What an operator has of a model's server: paths beside predictions, metrics, users, health."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from seatrial.stack.confinement import CONFINED_USER, OTHER_USER
from seatrial.stack.oneoff import run_in_container

from .health import wait_healthy
from .predictions import assert_answered
from .serving import (
    AT_ONCE,
    LOAD_SECONDS,
    LOADING,
    SCRIPTABLE,
    any_payload,
    at_once,
    scriptable,
    with_parameters,
)

if TYPE_CHECKING:
    from seatrial.contract import Promise
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.model_server import ModelServer
    from seatrial.trial.fixtures import StartServing
    from seatrial.trial.model_serving import Serving

COUNTED_WITHIN = 0.5
"""Seconds after its answer in which a request may still be counted."""


@pytest.mark.promise("serving.paths")
def test_path_is_answered(
    serving: Serving, serve: StartServing, promised: Promise, image: ImageUnderTest
) -> None:
    """With the truth: /health while the model still loads, /version for what is installed."""
    path = str(promised.item)
    server = serving.server(any_payload(serving)[0])
    answer = server.get(path)
    assert answer.status_code == HTTPStatus.OK, f"{path}: {answer.status_code}"
    if path == "/version":
        script = "import mlflow; print(mlflow.__version__)"
        asked = run_in_container(server.container, image.contract.start.interpreter, "-c", script)
        assert asked.code == 0, f"the image's Python has no MLflow: {asked}"
        said, there = answer.text.strip().strip('"'), asked.output.split()[-1]
        assert said == there, f"/version says {said}, and MLflow {there} is installed"
    if path != "/health" or SCRIPTABLE not in serving.cases:
        return
    loading = LOADING * image.scale
    begun = time.monotonic()
    starting = serve(SCRIPTABLE, wait=False, variables={LOAD_SECONDS: str(loading)})
    starting.wait_for(path)
    ready = time.monotonic() - begun
    assert ready >= loading, f"{path} says 200 after {ready:.1f} s; the model loads {loading} s"


@pytest.mark.promise("serving.metrics")
def test_metrics_count_requests(serving: Serving) -> None:
    kind, payload = any_payload(serving)
    server = serving.server(kind)
    before, rounds = _counted(server), 5
    for _ in range(rounds):
        for answer in at_once(server, payload.body, payload.content_type):
            answer.raise_for_status()
    time.sleep(COUNTED_WITHIN)
    # Whichever process tells them, they are the whole server's.
    with ThreadPoolExecutor(AT_ONCE) as pool:
        seen = list(pool.map(lambda _: _counted(server), range(4 * AT_ONCE)))
    times = rounds * AT_ONCE
    for after in seen:
        grown = {name for name, value in after.items() if value - before.get(name, 0) == times}
        assert any(name.endswith("_total") for name in grown), f"no counter has risen by {times}"
        assert any(name.endswith("_count") for name in grown), f"no histogram has, by {times}"
        assert any(
            name.endswith("_seconds_sum") and value > before.get(name, 0)
            for name, value in after.items()
        ), "predictions take no time"


@pytest.mark.promise("serving.metrics")
def test_metrics_tell_failures_apart(serving: Serving) -> None:
    kind, _ = any_payload(serving)
    server = serving.server(kind)
    before, times = _counted(server, "4"), 3
    for _ in range(times):
        assert server.ask("{").status_code == HTTPStatus.BAD_REQUEST
    time.sleep(COUNTED_WITHIN)
    after = _counted(server, "4")
    grown = [name for name, value in after.items() if value - before.get(name, 0) == times]
    assert grown, f"nothing with a label of 4xx has risen by {times}"


@pytest.mark.promise("serving.metrics")
def test_metrics_measure_seconds(serving: Serving, image: ImageUnderTest) -> None:
    server = serving.server(scriptable(serving))
    before, pause = _counted(server), 0.5 * image.scale
    server.ask(with_parameters(pause=pause)).raise_for_status()
    time.sleep(COUNTED_WITHIN)
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
def test_serves_models_confined(serving: Serving, image: ImageUnderTest) -> None:
    kind, payload = any_payload(serving)
    server = serving.server(kind)
    server.container.reload()
    configuration, host = server.container.attrs["Config"], server.container.attrs["HostConfig"]
    assert configuration["User"] == CONFINED_USER
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert_answered(server.ask(payload.body, payload.content_type), payload.predictions, image)


@pytest.mark.promise("process.arbitrary_user")
def test_serves_models_as_another_user(
    serving: Serving, serve: StartServing, image: ImageUnderTest
) -> None:
    kind, payload = any_payload(serving)
    server = serve(kind, user=OTHER_USER)
    users = {row[1] for row in server.container.top(ps_args="-eo pid,uid,args")["Processes"]}
    assert users == {OTHER_USER.partition(":")[0]}, f"its processes run as {users}"
    assert_answered(server.ask(payload.body, payload.content_type), payload.predictions, image)


@pytest.mark.promise("image.user")
def test_model_server_runs_as_its_user(serving: Serving, promised: Promise) -> None:
    """What the image says; no process of a server is root's."""
    kind, _ = any_payload(serving)
    assert serving.image.configuration.user == promised.value
    top = serving.server(kind).container.top(ps_args="-eo pid,uid,args")
    roots = [row for row in top["Processes"] if int(row[1]) == 0]
    assert not roots, f"run by root: {roots}"


@pytest.mark.promise("image.healthcheck")
def test_model_server_is_healthy(
    serving: Serving, serve: StartServing, image: ImageUnderTest
) -> None:
    """Once its model is loaded."""
    kind, _ = any_payload(serving)
    container = serving.server(kind).container
    how, *words = image.configuration.healthcheck or ("NONE",)
    assert how == "CMD", f"the health check is {how}, not a command without a shell"
    checked = run_in_container(container, *words)
    assert checked.code == 0, f"the check fails on a server that answers: {checked}"

    wait_healthy(container)
    if SCRIPTABLE not in serving.cases:
        return
    loading = serve(SCRIPTABLE, wait=False, variables={LOAD_SECONDS: "3600"})

    for _ in range(3):
        time.sleep(1 * image.scale)
        checked = run_in_container(loading.container, *words)
        assert checked.code != 0, f"the check passes while the model still loads: {checked}"
