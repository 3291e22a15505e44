"""Experiments, runs and their data: written by the real client, and read back whole."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Metric, Param, RunStatus, RunTag, ViewType

from seatrial.trial.clients import pages_of

from .comparisons import assert_equal
from .refused_requests import refused

if TYPE_CHECKING:
    from seatrial.stack.server import MLflowServer
    from seatrial.trial.fixtures import NewName

pytestmark = pytest.mark.promise("server.capabilities", "tracking")

NON_ASCII = "Größe 数値 🚢 'quoted' \"twice\""
POINTS = 10_000
BATCH = 1_000
"""The most metrics that one request may carry."""
CLIENTS = 8
RUNS_PER_CLIENT = 50
CONTEXT = {"mlflow.data.context": "training"}
"""Tags of a dataset that was logged for training."""


def test_experiment_from_creation_to_restoration(
    client: MlflowClient, new_name: NewName, server: MLflowServer
) -> None:
    fresh_part = new_name()
    name = f"{fresh_part} {NON_ASCII}"
    experiment_id = client.create_experiment(name, tags={"team": NON_ASCII})
    found = client.get_experiment_by_name(name)
    assert found is not None, f"the experiment {name!r}, just created, is not found by its name"
    assert_equal(
        "the id and the tag of the experiment that the client finds by its name",
        (found.experiment_id, found.tags.get("team")),
        (experiment_id, NON_ASCII),
    )

    with refused(
        "a second experiment of the same name",
        code="RESOURCE_ALREADY_EXISTS",
        match="already exists",
    ):
        client.create_experiment(name)

    client.set_experiment_tag(experiment_id, "stage", "trial")
    client.rename_experiment(experiment_id, f"{name} renamed")
    renamed = client.get_experiment(experiment_id)
    assert_equal(
        "the name that the client reads of the experiment that it renamed",
        renamed.name,
        f"{name} renamed",
    )
    assert_equal(
        "the tag 'stage' that the client reads of the experiment on which it set it",
        renamed.tags.get("stage"),
        "trial",
    )

    client.delete_experiment(experiment_id)
    assert_equal(
        "the stage that the client reads of the experiment that it deleted",
        client.get_experiment(experiment_id).lifecycle_stage,
        "deleted",
    )
    named = f"name LIKE '{fresh_part}%'"
    active = [experiment.name for experiment in client.search_experiments(filter_string=named)]
    assert active == [], f"a search of active experiments finds the deleted one: {active}"
    deleted = client.search_experiments(ViewType.DELETED_ONLY, filter_string=named)
    assert_equal(
        "the list of deleted experiments that a search by name finds, after one was deleted,",
        [experiment.experiment_id for experiment in deleted],
        [experiment_id],
    )
    with refused("a new run in a deleted experiment", match="active"):
        client.create_run(experiment_id)
    client.restore_experiment(experiment_id)
    assert_equal(
        "the stage that the client reads of the experiment that it restored",
        client.get_experiment(experiment_id).lifecycle_stage,
        "active",
    )
    assert_equal(
        "the experiment of a run that the client created in the restored one",
        client.create_run(experiment_id).info.experiment_id,
        experiment_id,
    )
    rows = server.rows(
        "SELECT name, lifecycle_stage FROM experiments WHERE experiment_id = ?",
        [int(experiment_id)],
    )
    assert_equal(
        "the row in the database of the experiment that was renamed, deleted and restored",
        rows,
        [(f"{name} renamed", "active")],
    )
    tags = server.rows(
        "SELECT key, value FROM experiment_tags WHERE experiment_id = ?", [int(experiment_id)]
    )
    assert_equal(
        "the table of the experiment's tags in the database, against what the client reads,",
        dict(tags),
        client.get_experiment(experiment_id).tags,
    )


def test_experiments_come_in_pages(client: MlflowClient, new_name: NewName) -> None:
    prefix = new_name()
    made = {client.create_experiment(f"{prefix}-{number}") for number in range(7)}
    pages = pages_of(
        lambda token: client.search_experiments(
            filter_string=f"name LIKE '{prefix}-%'", max_results=3, page_token=token
        )
    )
    assert_equal(
        "the list of the pages' sizes in a search for 7 experiments, 3 to a page,",
        [len(page) for page in pages],
        [3, 3, 1],
    )
    assert_equal(
        "the set of experiments on all pages of a search for the 7 that the client created",
        {experiment.experiment_id for page in pages for experiment in page},
        made,
    )


def test_run_keeps_what_was_logged(client: MlflowClient, experiment: str) -> None:
    run_id = client.create_run(experiment, run_name="whole").info.run_id
    params = {f"param/{number}": f"{number} {NON_ASCII}" for number in range(90)}
    client.log_batch(
        run_id,
        params=[Param(key, value) for key, value in params.items()],
        tags=[RunTag("tag.one", NON_ASCII), RunTag("tag-two", "2")],
        metrics=[Metric("loss", 0.1, 1_700_000_000_000, 0)],
    )
    client.delete_tag(run_id, "tag-two")
    client.set_terminated(run_id, "FINISHED", end_time=1_700_000_000_500)
    run = client.get_run(run_id)
    for field, found, logged in (
        ("set of 90 params", run.data.params, params),
        ("tag 'tag.one'", run.data.tags.get("tag.one"), NON_ASCII),
        ("set of metrics", run.data.metrics, {"loss": 0.1}),
        ("status", run.info.status, "FINISHED"),
        ("end time", run.info.end_time, 1_700_000_000_500),
        ("name", run.info.run_name, "whole"),
    ):
        assert_equal(f"the {field} that the client reads of the run that it logged", found, logged)
    assert "tag-two" not in run.data.tags, (
        f"the client reads the tag 'tag-two', which it deleted: {run.data.tags}"
    )


def test_param_can_not_change(client: MlflowClient, experiment: str) -> None:
    run_id = client.create_run(experiment).info.run_id
    client.log_param(run_id, "depth", 3)
    client.log_param(run_id, "depth", 3)
    with refused("another value of a param that was logged", code="INVALID_PARAMETER_VALUE"):
        client.log_param(run_id, "depth", 4)
    assert_equal(
        "the set of params that the client reads after it logged depth 3, and 4 was refused,",
        client.get_run(run_id).data.params,
        {"depth": "3"},
    )


def test_unknown_run_is_not_found(client: MlflowClient) -> None:
    with refused("a look at a run that was never created", code="RESOURCE_DOES_NOT_EXIST"):
        client.get_run("0" * 32)


def test_nested_runs(client: MlflowClient, experiment: str) -> None:
    with mlflow.start_run(experiment_id=experiment, run_name="parent") as parent:
        for number in range(3):
            with mlflow.start_run(
                experiment_id=experiment, run_name=f"child-{number}", nested=True
            ) as child:
                mlflow.log_metric("number", number)
                with mlflow.start_run(experiment_id=experiment, nested=True) as grandchild:
                    pass
    children = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert_equal(
        "the list of metrics 'number' of the three child runs that a search by their parent finds",
        sorted(child.data.metrics.get("number", math.nan) for child in children),
        [0, 1, 2],
    )
    assert_equal(
        "the set of statuses of child runs that the client ended",
        {child.info.status for child in children},
        {"FINISHED"},
    )
    last = client.get_run(grandchild.info.run_id).data.tags.get("mlflow.parentRunId")
    assert_equal(
        "the parent that the client reads of a run in a child run", last, child.info.run_id
    )


def _point(metric: Metric) -> tuple[int, float, int]:
    return metric.step, metric.value, metric.timestamp


def test_metric_history_of_ten_thousand_points(
    client: MlflowClient, experiment: str, server: MLflowServer
) -> None:
    run_id = client.create_run(experiment).info.run_id
    written = [
        Metric("curve", math.sin(step) * 10 ** (step % 19 - 9), 1_700_000_000_000 + step, step)
        for step in range(POINTS)
    ]
    for start in range(0, POINTS, BATCH):
        client.log_batch(run_id, metrics=written[start : start + BATCH])
    read = client.get_metric_history(run_id, "curve")
    assert len(read) == POINTS, (
        f"the client logged {POINTS} points of a metric and reads {len(read)} in its history"
    )
    pairs = zip(sorted(read, key=lambda metric: metric.step), written, strict=True)
    changed = [(back, sent) for back, sent in pairs if _point(back) != _point(sent)]
    assert not changed, (
        f"{len(changed)} of {POINTS} points of a metric came back to the client changed; the first:"
        f" step, value and time are {_point(changed[0][0])}, logged were {_point(changed[0][1])}"
    )
    assert_equal(
        f"the run's value of a metric after {POINTS} points, which is its last step's,",
        client.get_run(run_id).data.metrics.get("curve"),
        written[-1].value,
    )
    rows = server.rows("SELECT count(*) FROM metrics WHERE run_uuid = ?", [run_id])
    assert_equal("the count of the metric's points in the database", rows, [(POINTS,)])


def test_metrics_that_are_not_finite(client: MlflowClient, experiment: str) -> None:
    run_id = client.create_run(experiment).info.run_id
    client.log_metric(run_id, "nan", math.nan)
    client.log_metric(run_id, "huge", 1.7e308)
    client.log_metric(run_id, "tiny", 5e-324)
    metrics = client.get_run(run_id).data.metrics
    assert math.isnan(metrics.get("nan", 0)), (
        f"the client logged NaN, and reads the metrics {metrics}"
    )
    assert_equal(
        "the pair of the largest and the smallest metric that the client reads",
        (metrics.get("huge"), metrics.get("tiny")),
        (1.7e308, 5e-324),
    )


def test_datasets(client: MlflowClient, experiment: str, server: MLflowServer) -> None:
    frame = pd.DataFrame({"größe": [1.5, 2.5], "name": ["a", "数"]})
    data = from_pandas(frame, source="trial.csv", name="cargo", targets="größe")
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_input(data, context="training")
    stored = server.rows(
        "SELECT d.name, d.digest FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id"
        " WHERE i.destination_id = ?",
        [run.info.run_id],
    )
    assert_equal(
        "the list in the database of the datasets that the run was given",
        stored,
        [("cargo", data.digest)],
    )
    inputs = client.get_run(run.info.run_id).inputs
    assert inputs is not None, "the client reads no inputs of a run that was given a dataset"
    assert len(inputs.dataset_inputs) == 1, (
        f"the client logged one dataset, and reads {inputs.dataset_inputs}"
    )
    [found] = inputs.dataset_inputs
    columns = json.loads(str(found.dataset.schema)).get("mlflow_colspec", [])
    for field, read, logged in (
        ("name", found.dataset.name, "cargo"),
        ("digest", found.dataset.digest, data.digest),
        ("set of tags", {tag.key: tag.value for tag in found.tags}, CONTEXT),
        ("list of columns", [column.get("name") for column in columns], ["größe", "name"]),
        ("profile", json.loads(str(found.dataset.profile)), {"num_rows": 2, "num_elements": 4}),
        ("source", json.loads(found.dataset.source).get("uri"), "trial.csv"),
    ):
        assert_equal(f"the {field} that the client reads of its dataset", read, logged)


def test_search_filters_orders_and_pages(client: MlflowClient, experiment: str) -> None:
    for number in range(25):
        # Mix the scores, because without an order the newest runs come first.
        score = number * 7 % 25
        run_id = client.create_run(experiment, run_name=f"run-{number}").info.run_id
        client.log_batch(
            run_id,
            metrics=[Metric("score", score / 10, int(time.time() * 1000), 0)],
            params=[Param("parity", "even" if score % 2 == 0 else "odd")],
            tags=[RunTag("kind", NON_ASCII.replace("'", ""))],
        )
    pages = pages_of(
        lambda token: client.search_runs(
            [experiment],
            filter_string="metrics.score >= 0.5 AND params.parity = 'even'",
            order_by=["metrics.score DESC"],
            max_results=4,
            page_token=token,
        )
    )
    assert_equal(
        "the list of scores, page by page, in a search for even runs from 0.5 on, 4 to a page,",
        [[run.data.metrics.get("score") for run in page] for page in pages],
        [[2.4, 2.2, 2.0, 1.8], [1.6, 1.4, 1.2, 1.0], [0.8, 0.6]],
    )
    by_name = client.search_runs([experiment], "attributes.run_name = 'run-7'")
    assert_equal(
        "the list of scores in a search for the name run-7",
        [run.data.metrics.get("score") for run in by_name],
        [2.4],
    )
    by_tag = client.search_runs([experiment], "tags.kind LIKE '%数値%'", max_results=100)
    assert len(by_tag) == 25, (
        f"of 25 runs with a tag, a search for a part of it finds {len(by_tag)}"
    )
    neither = client.search_runs([experiment], "params.parity = 'neither'")
    assert neither == [], f"a search for a param that no run has finds {len(neither)} runs"
    with refused("a search whose filter is no filter", code="INVALID_PARAMETER_VALUE"):
        client.search_runs([experiment], "this is no filter")


def test_deleted_run_can_be_restored(client: MlflowClient, experiment: str) -> None:
    run_id = client.create_run(experiment, tags={"kept": "yes"}).info.run_id
    client.log_metric(run_id, "loss", 1.5)
    client.delete_run(run_id)
    active = client.search_runs([experiment])
    assert active == [], f"a search finds {len(active)} runs; the client deleted the only one"
    deleted = client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)
    assert_equal(
        "the list of deleted runs that a search finds, after the client deleted one,",
        [run.info.run_id for run in deleted],
        [run_id],
    )
    client.restore_run(run_id)
    restored = client.search_runs([experiment])
    assert_equal(
        "the list of metrics and tag of all runs that a search finds, after one was restored,",
        [(run.data.metrics, run.data.tags.get("kept")) for run in restored],
        [({"loss": 1.5}, "yes")],
    )


def test_concurrent_clients_lose_nothing(
    client: MlflowClient, experiment: str, server: MLflowServer
) -> None:
    """Eight clients write four hundred runs; the client, the search and the database agree."""

    def write(writer: int) -> list[str]:
        writing = MlflowClient(server.url)
        made = []
        for number in range(RUNS_PER_CLIENT):
            run_id = writing.create_run(experiment, tags={"writer": str(writer)}).info.run_id
            writing.log_batch(
                run_id,
                metrics=[Metric("number", number, 1_700_000_000_000, 0)],
                params=[Param("writer", str(writer))],
            )
            writing.set_terminated(run_id)
            made.append(run_id)
        return made

    with ThreadPoolExecutor(CLIENTS) as pool:
        written = [run_id for made in pool.map(write, range(CLIENTS)) for run_id in made]
    assert_equal(
        f"the count of ids that {CLIENTS} clients got for {RUNS_PER_CLIENT} new runs each",
        len(set(written)),
        CLIENTS * RUNS_PER_CLIENT,
    )

    found = client.search_runs([experiment], max_results=1000)
    lost = set(written) - {run.info.run_id for run in found}
    assert not lost, f"{len(lost)} of {len(written)} runs are not found by a search"
    assert len(found) == len(written), f"of {len(written)} runs, a search finds {len(found)}"
    assert_equal(
        "the set of statuses, found by a search, of runs that the clients ended",
        {run.info.status for run in found},
        {RunStatus.to_string(RunStatus.FINISHED)},
    )
    assert_equal(
        "the count of runs by client, from the params that a search finds,",
        Counter(run.data.params.get("writer") for run in found),
        {str(writer): RUNS_PER_CLIENT for writer in range(CLIENTS)},
    )
    assert_equal(
        "the count of runs by metric, one of each number and client, that a search finds",
        Counter(run.data.metrics.get("number") for run in found),
        {float(number): CLIENTS for number in range(RUNS_PER_CLIENT)},
    )

    stored = server.rows(
        "SELECT r.run_uuid, r.status, p.value, m.value FROM runs r"
        " JOIN params p ON p.run_uuid = r.run_uuid"
        " JOIN latest_metrics m ON m.run_uuid = r.run_uuid WHERE r.experiment_id = ?",
        [int(experiment)],
    )
    assert len(stored) == len(written), (
        f"the database's tables hold {len(stored)} of the {len(written)} runs that were logged"
    )
    read = {
        (run.info.run_id, run.info.status, run.data.params["writer"], run.data.metrics["number"])
        for run in found
    }
    assert_equal(
        "the set of id, status, param and metric in the database, against what a search finds,",
        set(stored),
        read,
    )


def test_database_holds_what_the_client_reads(
    client: MlflowClient, experiment: str, server: MLflowServer
) -> None:
    """The tables behind the server hold what the client reads, value by value."""
    run_id = client.create_run(experiment, run_name="behind").info.run_id
    client.log_batch(
        run_id,
        metrics=[Metric("loss", 1 / 3, 1_700_000_000_001, 7)],
        params=[Param("größe", NON_ASCII)],
        tags=[RunTag("tag", NON_ASCII)],
    )
    run = client.get_run(run_id)
    history = client.get_metric_history(run_id, "loss")

    stored = {
        table: server.rows(f"SELECT {columns} FROM {table} WHERE run_uuid = ?", [run_id])
        for table, columns in (
            ("runs", "name, status"),
            ("params", "key, value"),
            ("metrics", "key, value, timestamp, step"),
            ("tags", "key, value"),
        )
    }

    read = {
        "runs": [(run.info.run_name, run.info.status)],
        "params": list(run.data.params.items()),
        "metrics": [
            (metric.key, metric.value, metric.timestamp, metric.step) for metric in history
        ],
    }
    for table, rows in read.items():
        assert_equal(
            f"the run's part of the table {table}, against the client's answer,",
            stored[table],
            rows,
        )
    assert_equal(
        "the run's part of the table tags, against the client's answer,",
        dict(stored["tags"]),
        run.data.tags,
    )
