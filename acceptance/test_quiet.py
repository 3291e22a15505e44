"""The log of a server while all is well: it has no traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
import pytest
import requests
from mlflow.entities import Metric, Param, RunTag

from .comparisons import assert_equal
from .refused_requests import refused

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from seatrial.stack.server import MLflowServer
    from seatrial.trial.fixtures import ClientFor, NewName

    from .factories import LaunchMain

pytestmark = pytest.mark.promise("server.quiet")

TRACEBACK = "Traceback (most recent call last)"
PAGES = ("/", "/health", "/version", "/static-files/index.html", "/metrics", "/nowhere")
"""Paths that browsers and probes ask for, whether they are there or not."""


def tracebacks(log: str) -> list[str]:
    """Find the tracebacks of a log, with the line before each and the error that ends it."""
    lines = log.splitlines()
    found = []
    for number, line in enumerate(lines):
        if TRACEBACK not in line:
            continue
        # Frames are indented, or empty between chained ones; the first other line is the error.
        rest = range(number + 1, len(lines))
        end = next(
            (after for after in rest if lines[after] and not lines[after][0].isspace()), len(lines)
        )
        found.append("\n".join(lines[max(0, number - 1) : end + 1]))
    return found


def test_ordinary_work_leaves_no_traceback(
    launch_main: LaunchMain, client_for: ClientFor, new_name: NewName
) -> None:
    """A server of its own, from start to end: other tests misuse the shared one."""
    server = launch_main()
    capabilities = server.image.contract.server.capabilities or []
    client, name = client_for(server), new_name()

    experiment = client.create_experiment(name)
    run = track(client, experiment)
    if "artifacts" in capabilities:
        keep_artifacts(client, run)
    if "registry" in capabilities:
        register(client, name, run)
    if "tracing" in capabilities:
        trace(client, experiment)
    misuse(client, run)
    client.delete_run(run)
    client.delete_experiment(experiment)
    browse(server)
    server.container.stop(timeout=30 * server.image.scale)

    found = tracebacks(server.container.logs().decode(errors="replace"))
    assert not found, (
        f"ordinary work of one client left {len(found)} tracebacks in the server's log, the first:"
        f"\n{found[0]}"
    )


def track(client: MlflowClient, experiment: str) -> str:
    """Log a run, find it again, and return its id."""
    run = str(client.create_run(experiment, tags={"kind": "ordinary"}).info.run_id)
    client.log_batch(
        run,
        metrics=[Metric("loss", 1 / step, 1000 * step, step) for step in range(1, 200)],
        params=[Param("depth", "7")],
        tags=[RunTag("note", "größe")],
    )
    history = client.get_metric_history(run, "loss")
    assert len(history) == 199, (
        f"the client logged 199 points of a metric and reads {len(history)} in its history"
    )
    found = client.search_runs([experiment], "metrics.loss < 0.5 and params.depth = '7'")
    assert found, "a search by metric and param doesn't find the run that the client logged"
    experiments = client.search_experiments(filter_string="name LIKE 'test%'")
    assert experiments is not None, "a search for experiments by name gives the client no answer"
    client.set_terminated(run)
    return run


def keep_artifacts(client: MlflowClient, run: str) -> None:
    """Write, list, read and replace artifacts."""
    for text in ("first", "second"):
        client.log_text(run, text, "folder/note.txt")
        assert_equal(
            "the text that the client reads of the artifact that it wrote",
            mlflow.artifacts.load_text(f"runs:/{run}/folder/note.txt"),
            text,
        )
    client.log_dict(run, {"leaf": True}, "leaf.json")
    assert_equal(
        "the listing that the client gets of the artifacts that it wrote",
        {entry.path for entry in client.list_artifacts(run)},
        {"folder", "leaf.json"},
    )
    nothing = client.list_artifacts(run, "nothing-here")
    assert nothing == [], f"the client's listing of a folder that isn't there holds {nothing}"


def register(client: MlflowClient, name: str, run: str) -> None:
    """Register a model and look it up."""
    client.create_registered_model(name, tags={"team": "sea"})
    client.create_model_version(name, f"runs:/{run}/folder", run)
    client.set_registered_model_alias(name, "champion", "1")
    assert_equal(
        "the run of the model's version that the client reads by alias",
        client.get_model_version_by_alias(name, "champion").run_id,
        run,
    )
    found = client.search_model_versions(f"name = '{name}'")
    assert found, "a search by name doesn't find the model's version that the client created"


def trace(client: MlflowClient, experiment: str) -> None:
    """Send a trace of two spans and read it."""
    mlflow.set_experiment(experiment_id=experiment)
    with mlflow.start_span("outer") as span, mlflow.start_span("inner"):
        pass
    mlflow.flush_trace_async_logging()
    spans = client.get_trace(span.trace_id).data.spans
    assert len(spans) == 2, f"the client sent a trace of 2 spans, and reads {len(spans)}"
    found = client.search_traces(locations=[experiment])
    assert found, "a search doesn't find the only trace of the experiment, which the client sent"


def misuse(client: MlflowClient, run: str) -> None:
    """Make the mistakes that users make: the client gets an error, the log no traceback."""
    for name, mistake in {
        "a look at an unknown run": lambda: client.get_run("0" * 32),
        "a look at an unknown experiment": lambda: client.get_experiment("987654321"),
        "another value of a param": lambda: client.log_param(run, "depth", "8"),
        "a filter that is none": lambda: client.search_runs(["0"], "this is no filter"),
        "a look at an unknown model": lambda: client.get_registered_model("no such model"),
    }.items():
        with refused(name):
            mistake()


def browse(server: MLflowServer) -> None:
    """Ask for pages, also for some that are not there, and hang up on one."""
    for page in PAGES:
        answer = server.get(page)
        assert answer.status_code < 500, (
            f"GET {page} is answered with {answer.status_code}, a fault of the server:"
            f" {answer.text[:200]}"
        )
    with requests.get(f"{server.url}/", stream=True, timeout=30 * server.image.scale):
        pass
