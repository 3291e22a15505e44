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
from mlflow.exceptions import MlflowException

from seatrial.trial.clients import pages_of

if TYPE_CHECKING:
    from seatrial.stack.server import Server
    from seatrial.trial.fixtures import NewName

pytestmark = pytest.mark.promise("server.capabilities", "tracking")

NON_ASCII = "Größe 数値 🚢 'quoted' \"twice\""
POINTS = 10_000
BATCH = 1_000
"""The most metrics that one request may carry."""
CLIENTS = 8
RUNS_PER_CLIENT = 50


def test_experiment_from_creation_to_restoration(
    client: MlflowClient, new_name: NewName, server: Server
) -> None:
    fresh_part = new_name()
    name = f"{fresh_part} {NON_ASCII}"
    experiment_id = client.create_experiment(name, tags={"team": NON_ASCII})
    found = client.get_experiment_by_name(name)
    assert found is not None
    assert (found.experiment_id, found.tags.get("team")) == (experiment_id, NON_ASCII)

    with pytest.raises(MlflowException, match="already exists") as refusal:
        client.create_experiment(name)
    assert refusal.value.error_code == "RESOURCE_ALREADY_EXISTS"

    client.set_experiment_tag(experiment_id, "stage", "trial")
    client.rename_experiment(experiment_id, f"{name} renamed")
    renamed = client.get_experiment(experiment_id)
    assert renamed.name == f"{name} renamed"
    assert renamed.tags.get("stage") == "trial"

    client.delete_experiment(experiment_id)
    assert client.get_experiment(experiment_id).lifecycle_stage == "deleted"
    named = f"name LIKE '{fresh_part}%'"
    assert client.search_experiments(filter_string=named) == []
    [deleted] = client.search_experiments(ViewType.DELETED_ONLY, filter_string=named)
    assert deleted.experiment_id == experiment_id
    with pytest.raises(MlflowException, match="active"):
        client.create_run(experiment_id)
    client.restore_experiment(experiment_id)
    assert client.get_experiment(experiment_id).lifecycle_stage == "active"
    assert client.create_run(experiment_id).info.experiment_id == experiment_id
    assert server.rows(
        "SELECT name, lifecycle_stage FROM experiments WHERE experiment_id = ?",
        [int(experiment_id)],
    ) == [(f"{name} renamed", "active")]
    tags = server.rows(
        "SELECT key, value FROM experiment_tags WHERE experiment_id = ?", [int(experiment_id)]
    )
    assert dict(tags) == client.get_experiment(experiment_id).tags


def test_experiments_come_in_pages(client: MlflowClient, new_name: NewName) -> None:
    prefix = new_name()
    made = {client.create_experiment(f"{prefix}-{number}") for number in range(7)}
    pages = pages_of(
        lambda token: client.search_experiments(
            filter_string=f"name LIKE '{prefix}-%'", max_results=3, page_token=token
        )
    )
    assert [len(page) for page in pages] == [3, 3, 1]
    assert {experiment.experiment_id for page in pages for experiment in page} == made


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
    assert run.data.params == params
    assert run.data.tags.get("tag.one") == NON_ASCII
    assert "tag-two" not in run.data.tags
    assert run.data.metrics == {"loss": 0.1}
    assert run.info.status == "FINISHED"
    assert run.info.end_time == 1_700_000_000_500
    assert run.info.run_name == "whole"


def test_param_can_not_change(client: MlflowClient, experiment: str) -> None:
    run_id = client.create_run(experiment).info.run_id
    client.log_param(run_id, "depth", 3)
    client.log_param(run_id, "depth", 3)
    with pytest.raises(MlflowException) as refusal:
        client.log_param(run_id, "depth", 4)
    assert refusal.value.error_code == "INVALID_PARAMETER_VALUE"
    assert client.get_run(run_id).data.params == {"depth": "3"}


def test_unknown_run_is_not_found(client: MlflowClient) -> None:
    with pytest.raises(MlflowException) as refusal:
        client.get_run("0" * 32)
    assert refusal.value.error_code == "RESOURCE_DOES_NOT_EXIST"


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
    assert sorted(child.data.metrics["number"] for child in children) == [0, 1, 2]
    assert {child.info.status for child in children} == {"FINISHED"}
    last = client.get_run(grandchild.info.run_id).data.tags.get("mlflow.parentRunId")
    assert last == child.info.run_id


def _point(metric: Metric) -> tuple[int, float, int]:
    return metric.step, metric.value, metric.timestamp


def test_metric_history_of_ten_thousand_points(
    client: MlflowClient, experiment: str, server: Server
) -> None:
    run_id = client.create_run(experiment).info.run_id
    written = [
        Metric("curve", math.sin(step) * 10 ** (step % 19 - 9), 1_700_000_000_000 + step, step)
        for step in range(POINTS)
    ]
    for start in range(0, POINTS, BATCH):
        client.log_batch(run_id, metrics=written[start : start + BATCH])
    read = client.get_metric_history(run_id, "curve")
    assert len(read) == POINTS
    pairs = zip(sorted(read, key=lambda metric: metric.step), written, strict=True)
    changed = [(back, sent) for back, sent in pairs if _point(back) != _point(sent)]
    assert not changed, f"{len(changed)} points came back changed, the first as {changed[0]}"
    assert client.get_run(run_id).data.metrics["curve"] == written[-1].value
    [(count,)] = server.rows("SELECT count(*) FROM metrics WHERE run_uuid = ?", [run_id])
    assert count == POINTS


def test_metrics_that_are_not_finite(client: MlflowClient, experiment: str) -> None:
    run_id = client.create_run(experiment).info.run_id
    client.log_metric(run_id, "nan", math.nan)
    client.log_metric(run_id, "huge", 1.7e308)
    client.log_metric(run_id, "tiny", 5e-324)
    metrics = client.get_run(run_id).data.metrics
    assert math.isnan(metrics["nan"])
    assert (metrics["huge"], metrics["tiny"]) == (1.7e308, 5e-324)


def test_datasets(client: MlflowClient, experiment: str, server: Server) -> None:
    frame = pd.DataFrame({"größe": [1.5, 2.5], "name": ["a", "数"]})
    data = from_pandas(frame, source="trial.csv", name="cargo", targets="größe")
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_input(data, context="training")
    stored = server.rows(
        "SELECT d.name, d.digest FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id"
        " WHERE i.destination_id = ?",
        [run.info.run_id],
    )
    assert stored == [("cargo", data.digest)]
    inputs = client.get_run(run.info.run_id).inputs
    assert inputs is not None
    [found] = inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("cargo", data.digest)
    assert {tag.key: tag.value for tag in found.tags} == {"mlflow.data.context": "training"}
    columns = json.loads(str(found.dataset.schema))["mlflow_colspec"]
    assert [column["name"] for column in columns] == ["größe", "name"]
    assert json.loads(str(found.dataset.profile)) == {"num_rows": 2, "num_elements": 4}
    assert json.loads(found.dataset.source)["uri"] == "trial.csv"


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
    assert [[run.data.metrics["score"] for run in page] for page in pages] == [
        [2.4, 2.2, 2.0, 1.8],
        [1.6, 1.4, 1.2, 1.0],
        [0.8, 0.6],
    ]
    by_name = client.search_runs([experiment], "attributes.run_name = 'run-7'")
    assert [run.data.metrics["score"] for run in by_name] == [2.4]
    by_tag = client.search_runs([experiment], "tags.kind LIKE '%数値%'", max_results=100)
    assert len(by_tag) == 25
    assert client.search_runs([experiment], "params.parity = 'neither'") == []
    with pytest.raises(MlflowException) as refusal:
        client.search_runs([experiment], "this is no filter")
    assert refusal.value.error_code == "INVALID_PARAMETER_VALUE"


def test_deleted_run_can_be_restored(client: MlflowClient, experiment: str) -> None:
    run_id = client.create_run(experiment, tags={"kept": "yes"}).info.run_id
    client.log_metric(run_id, "loss", 1.5)
    client.delete_run(run_id)
    assert client.search_runs([experiment]) == []
    [deleted] = client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)
    assert deleted.info.run_id == run_id
    client.restore_run(run_id)
    [restored] = client.search_runs([experiment])
    assert (restored.data.metrics, restored.data.tags.get("kept")) == ({"loss": 1.5}, "yes")


def test_concurrent_clients_lose_nothing(
    client: MlflowClient, experiment: str, server: Server
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
    assert len(set(written)) == CLIENTS * RUNS_PER_CLIENT

    found = client.search_runs([experiment], max_results=1000)
    lost = set(written) - {run.info.run_id for run in found}
    assert not lost, f"{len(lost)} of {len(written)} runs are not found"
    assert len(found) == len(written)
    assert {run.info.status for run in found} == {RunStatus.to_string(RunStatus.FINISHED)}
    per_writer = Counter(run.data.params.get("writer") for run in found)
    assert per_writer == {str(writer): RUNS_PER_CLIENT for writer in range(CLIENTS)}
    numbers = Counter(run.data.metrics.get("number") for run in found)
    assert numbers == {float(number): CLIENTS for number in range(RUNS_PER_CLIENT)}

    stored = server.rows(
        "SELECT r.run_uuid, r.status, p.value, m.value FROM runs r"
        " JOIN params p ON p.run_uuid = r.run_uuid"
        " JOIN latest_metrics m ON m.run_uuid = r.run_uuid WHERE r.experiment_id = ?",
        [int(experiment)],
    )
    assert len(stored) == len(written), f"the tables hold {len(stored)} of {len(written)} runs"
    read = {
        (run.info.run_id, run.info.status, run.data.params["writer"], run.data.metrics["number"])
        for run in found
    }
    assert set(stored) == read


def test_database_holds_what_the_client_reads(
    client: MlflowClient, experiment: str, server: Server
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
    assert server.rows("SELECT name, status FROM runs WHERE run_uuid = ?", [run_id]) == [
        (run.info.run_name, run.info.status)
    ]
    assert server.rows("SELECT key, value FROM params WHERE run_uuid = ?", [run_id]) == list(
        run.data.params.items()
    )
    metrics = server.rows(
        "SELECT key, value, timestamp, step FROM metrics WHERE run_uuid = ?", [run_id]
    )
    history = client.get_metric_history(run_id, "loss")
    assert metrics == [
        (metric.key, metric.value, metric.timestamp, metric.step) for metric in history
    ]
    tags = dict(server.rows("SELECT key, value FROM tags WHERE run_uuid = ?", [run_id]))
    assert tags == run.data.tags
