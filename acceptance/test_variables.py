"""Variables: those that MLflow documents have their effect, and those of Kubernetes have none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from seatrial.backends.base import DATA_PATH
from seatrial.backends.postgresql import PostgreSQL
from seatrial.engine.waiting import until
from seatrial.stack.settings import ServerSettings

from .comparisons import assert_equal

if TYPE_CHECKING:
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.services import Services
    from seatrial.trial.fixtures import Launch

    from .factories import NewStores

SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
PREFIX = "/below"
ELSEWHERE = "https://elsewhere.example"
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'"
SERVICE_LINKS = {
    "MLFLOW_PORT": "tcp://10.0.0.1:5000",
    "MLFLOW_PORT_5000_TCP": "tcp://10.0.0.1:5000",
    "MLFLOW_PORT_5000_TCP_ADDR": "10.0.0.1",
    "MLFLOW_PORT_5000_TCP_PORT": "5000",
    "MLFLOW_PORT_5000_TCP_PROTO": "tcp",
    "MLFLOW_SERVICE_HOST": "10.0.0.1",
    "MLFLOW_SERVICE_PORT": "5000",
    "MLFLOW_SERVICE_PORT_HTTP": "5000",
    "MLFLOW_MODELS_PORT": "tcp://10.0.0.2:8080",
    "MLFLOW_SERVER_PORT": "tcp://10.0.0.1:5000",
}
"""Variables that Kubernetes puts into every container beside services that are called `mlflow`,
`mlflow-models` and `mlflow-server`."""


def _from_variables(
    image: ImageUnderTest, settings: ServerSettings, **variables: str
) -> ServerSettings:
    """Settings of a server whose command has no options."""
    return replace(settings, command=tuple(image.server_command)).with_environment(
        MLFLOW_HOST="0.0.0.0", **variables
    )


@pytest.mark.promise("server.documented_variables")
def test_everything_in_variables(
    image: ImageUnderTest, services: Services, new_stores: NewStores, launch: Launch
) -> None:
    """The pool of connections is of a class that takes no size: none is kept open."""
    plain = ServerSettings("variables", database="postgresql", store="file", access="proxied")
    stores = new_stores(plain)
    url = services.of(PostgreSQL).url(stores.database)
    settings = _from_variables(
        image,
        plain,
        MLFLOW_PORT=str(image.contract.start.port),
        MLFLOW_WORKERS="1",
        MLFLOW_BACKEND_STORE_URI=url,
        MLFLOW_REGISTRY_STORE_URI=url,
        MLFLOW_READ_REPLICA_BACKEND_STORE_URI=url,
        MLFLOW_SERVE_ARTIFACTS="true",
        MLFLOW_ARTIFACTS_DESTINATION=f"{DATA_PATH}/elsewhere",
        MLFLOW_STATIC_PREFIX=PREFIX,
        MLFLOW_SERVER_X_FRAME_OPTIONS="DENY",
        MLFLOW_SERVER_CORS_ALLOWED_ORIGINS=ELSEWHERE,
        MLFLOW_SQLALCHEMYSTORE_POOLCLASS="NullPool",
        MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE="600",
    )

    server = launch(settings, stores=stores, wait=False)
    server.wait_for(f"{PREFIX}/health")
    answer = server.get(f"{PREFIX}{SEARCH}", headers={"Origin": ELSEWHERE})

    assert answer.status_code == 200, f"the search below the prefix: {answer.status_code}"
    headers = ("X-Frame-Options", "Access-Control-Allow-Origin")
    assert_equal(
        "the pair of headers that two variables set, in the answer to a search,",
        [answer.headers.get(name) for name in headers],
        ["DENY", ELSEWHERE],
    )
    assert_equal(
        "the list of experiments in the database that a variable names",
        server.rows("SELECT name FROM experiments"),
        [("Default",)],
    )

    def kept() -> int:
        with services.of(PostgreSQL).connect() as connection:
            [row] = connection.execute(CONNECTIONS.format(stores.database)).fetchall()
        return int(row[0])

    until(
        lambda: kept() == 0,
        container=server.container,
        action="close its connections to the database, as NullPool does",
        limit=10 * image.scale,
    )


@pytest.mark.promise("server.documented_variables")
def test_artifacts_alone(image: ImageUnderTest, launch: Launch) -> None:
    """The server has no database: MLflow refuses to start with one."""
    plain = ServerSettings("artifacts-only", database="sqlite", store="file", access="proxied")
    settings = _from_variables(
        image,
        plain,
        MLFLOW_PORT=str(image.contract.start.port),
        MLFLOW_WORKERS="1",
        MLFLOW_ARTIFACTS_ONLY="true",
        MLFLOW_ARTIFACTS_DESTINATION=f"{DATA_PATH}/alone",
        MLFLOW_UVICORN_OPTS="--no-access-log",
    )

    server = launch(settings)

    assert server.takes_artifacts(), "the server for artifacts alone does not take one"
    answer = server.get(SEARCH)
    assert "artifacts-only" in answer.text, (
        f"the server for artifacts alone answers a search: {answer.status_code} {answer.text}"
    )
    assert "GET /api" not in server.logs(1000), (
        "the log has the requests that MLFLOW_UVICORN_OPTS turned off"
    )


@pytest.mark.promise("server.ignores_service_links")
def test_server_beside_a_service_of_its_name(image: ImageUnderTest, launch: Launch) -> None:
    plain = ServerSettings("service-links", database="sqlite", store="file", access="proxied")
    settings = _from_variables(
        image,
        plain,
        MLFLOW_WORKERS="1",
        MLFLOW_BACKEND_STORE_URI=f"sqlite:///{DATA_PATH}/mlflow.db",
        MLFLOW_ARTIFACTS_DESTINATION=f"{DATA_PATH}/artifacts",
        **SERVICE_LINKS,
    )

    answer = launch(settings).get(SEARCH)

    assert answer.status_code == 200, f"a search is answered {answer.status_code}: {answer.text}"
