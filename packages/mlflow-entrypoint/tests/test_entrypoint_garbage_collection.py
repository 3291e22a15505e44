"""The entry point: where `mlflow gc` finds what it deletes."""

from __future__ import annotations

import pytest
from mlflow.store.artifact import artifact_repository_registry as registry
from mlflow_entrypoint import garbage_collection, settings
from mlflow_entrypoint.errors import EntrypointError

URL = "postgresql+psycopg2://mlflow:s3cret@postgres:5432/mlflowdb"
DATABASE = "--backend-store-uri"


def _settle(*words: str, **environment: str) -> tuple[list[str], dict[str, str]]:
    return garbage_collection.settle(list(words), environment), environment


@pytest.mark.parametrize("name", ["BACKEND_STORE_URI", "MLFLOW_BACKEND_STORE_URI"])
def test_database_is_the_servers(name: str) -> None:
    words, environment = _settle("--older-than", "1d", **{name: URL})
    assert words == [DATABASE, URL, "--older-than", "1d"]
    assert environment["MLFLOW_TRACKING_URI"] == URL


def test_database_by_default_is_the_servers_too() -> None:
    words, environment = _settle()
    (default,) = settings.DATABASE.values()
    assert words == [DATABASE, default]
    assert environment["MLFLOW_ARTIFACTS_DESTINATION"] == settings.ARTIFACTS


def test_database_of_an_option_wins() -> None:
    words, environment = _settle(DATABASE, "sqlite:///b.db", BACKEND_STORE_URI=URL)
    assert words == [DATABASE, "sqlite:///b.db"]
    assert environment["MLFLOW_TRACKING_URI"] == "sqlite:///b.db"


def test_destination_of_artifacts_is_kept() -> None:
    _, environment = _settle(MLFLOW_ARTIFACTS_DESTINATION="s3://own", BACKEND_STORE_URI=URL)
    assert environment["MLFLOW_ARTIFACTS_DESTINATION"] == "s3://own"
    _, environment = _settle(ARTIFACT_ROOT="s3://root", BACKEND_STORE_URI=URL)
    assert environment["MLFLOW_ARTIFACTS_DESTINATION"] == "s3://root"


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["--tracking-uri", "http://mlflow:5000"], {}),
        (["--tracking-uri=http://mlflow:5000"], {}),
        ([], {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}),
    ],
)
def test_server_that_is_named_is_asked(words: list[str], variables: dict[str, str]) -> None:
    settled, environment = _settle(*words, BACKEND_STORE_URI=URL, **variables)
    assert settled == [DATABASE, URL, *words]
    assert environment.get("MLFLOW_TRACKING_URI") == variables.get("MLFLOW_TRACKING_URI")


@pytest.mark.parametrize(
    ("words", "root", "place"),
    [
        ([], "s3://bucket/runs/", "s3://bucket/runs/0/r/artifacts"),
        ([], "s3://bucket?endpoint=x", "s3://bucket/0/r/artifacts?endpoint=x"),
        (["--artifacts-destination", "s3://other"], "s3://bucket", "s3://other/0/r/artifacts"),
    ],
)
@pytest.mark.parametrize(
    "uri", ["mlflow-artifacts:/0/r/artifacts", "mlflow-artifacts://host:5000/0/r/../r/artifacts"]
)
def test_artifacts_of_a_server_are_where_it_keeps_them(
    words: list[str], root: str, place: str, uri: str
) -> None:
    _settle(*words, BACKEND_STORE_URI=URL, ARTIFACT_ROOT=root)
    found = registry.get_artifact_repository(uri)
    assert found.artifact_uri == place


@pytest.mark.parametrize("path", ["../../etc", "/../etc", "0/../../etc"])
def test_artifacts_outside_of_the_root_are_none(path: str) -> None:
    _settle(BACKEND_STORE_URI=URL, ARTIFACT_ROOT="s3://bucket/runs")
    found = registry.get_artifact_repository(f"mlflow-artifacts:/{path}")
    assert found.artifact_uri == "s3://bucket/runs/etc"


def test_values_are_looked_at_first() -> None:
    with pytest.raises(EntrypointError, match="has quotes around"):
        _settle(BACKEND_STORE_URI=f"'{URL}'")
    with pytest.raises(EntrypointError, match="both set and differ"):
        _settle(BACKEND_STORE_URI=URL, MLFLOW_BACKEND_STORE_URI="sqlite:///a.db")
