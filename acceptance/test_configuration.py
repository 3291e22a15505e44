"""Right and wrong settings of an operator."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from mlflow.exceptions import MlflowException
from requests import HTTPError

from seatrial.backends.postgresql import PostgreSQL
from seatrial.engine.waiting import LOG_LINES, ContainerError, until

from .comparisons import assert_equal, assert_hidden
from .refused_requests import refused

if TYPE_CHECKING:
    from seatrial.stack.server import MLflowServer
    from seatrial.stack.services import Services
    from seatrial.trial.fixtures import ClientFor, Launch, NewRun

    from .factories import LaunchMain, NewStores

SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


@pytest.mark.promise("server.checks_host")
@pytest.mark.parametrize("host", ["mlflow", "mlflow:5000", "localhost:5000"])
def test_allowed_host_is_served(server: MLflowServer, host: str) -> None:
    answer = server.get(SEARCH, headers={"Host": host})
    assert answer.status_code == 200, (
        f"a request with the allowed `Host: {host}` was answered with {answer.status_code}:"
        f" {answer.text[:200]}"
    )
    assert "experiments" in answer.json(), (
        f"a search with the allowed `Host: {host}` was answered without experiments:"
        f" {answer.text[:200]}"
    )


@pytest.mark.promise("server.checks_host")
@pytest.mark.parametrize(
    "host", ["evil.example", "mlflow.evil.example:5000", "localhost.evil.example", "tracking:5000"]
)
def test_other_host_is_refused(server: MLflowServer, host: str) -> None:
    answer = server.get(SEARCH, headers={"Host": host})
    assert answer.status_code == 403, (
        f"a request with `Host: {host}`, which is not allowed, was answered with"
        f" {answer.status_code} instead of 403"
    )
    assert "experiments" not in answer.text, (
        f"the refusal of `Host: {host}` shows experiments: {answer.text[:200]}"
    )


@pytest.mark.promise("server.reports_faults", "database")
def test_unknown_database_scheme_ends_the_server(launch_main: LaunchMain) -> None:
    """No waiting mends the scheme, so the server must end, with the exit code of a failure."""
    url = "oracle+nothing://user:pw@db/name"
    server = launch_main(name="wrong-scheme", database_url=url, wait=False)
    with refused(
        "a start on a database of an unknown scheme",
        match="exited with code",
        errors=(ContainerError,),
    ):
        server.wait_healthy()
    code = server.container.attrs["State"]["ExitCode"]
    assert code not in (0, 143), (
        f"the container ended for its database's unknown scheme with exit code {code}, as if all"
        " were well"
    )
    assert "oracle" in server.logs(LOG_LINES), (
        "the end of the server's log doesn't name `oracle`, the database's unknown scheme"
    )


@pytest.mark.promise("server.databases", "postgresql")
@pytest.mark.promise("server.reports_faults", "database")
def test_missing_database_is_named(services: Services, launch_main: LaunchMain) -> None:
    """The log must name the cause, whether the program tries again (MLflow does) or ends."""
    url = services.of(PostgreSQL).url("no_such_database")
    server = launch_main(name="wrong-database", database_url=url, wait=False)
    reason = 'database "no_such_database" does not exist'
    try:
        until(
            lambda: reason in server.logs(),
            container=server.container,
            action="name the database that does not exist",
            limit=60 * server.image.scale,
        )
    except ContainerError as failure:
        if reason not in failure.logs:
            raise
        code = server.container.attrs["State"]["ExitCode"]
        assert code not in (0, 143), (
            f"the container ended for its missing database with exit code {code}, as if all were"
            " well"
        )
    assert_hidden("the server's log", services.of(PostgreSQL).address.password, server.logs(1000))


@pytest.mark.promise("server.reports_faults", "bucket")
def test_missing_bucket_fails_the_upload_and_spares_the_server(
    s3_server: MLflowServer,
    new_stores: NewStores,
    launch: Launch,
    client_for: ClientFor,
    new_run: NewRun,
) -> None:
    settings = s3_server.settings
    server = launch(settings, stores=replace(new_stores(settings), bucket="no-such-bucket"))
    client = client_for(server)
    run_id = new_run(client)

    with refused("an upload to a missing bucket", errors=(MlflowException, HTTPError)):
        client.log_text(run_id, "lost", "note.txt")

    until(
        lambda: "NoSuchBucket" in server.logs(),
        container=server.container,
        action="log that the bucket is missing",
        limit=10 * server.image.scale,
    )
    status = server.get("/health").status_code
    assert status == 200, f"after an upload to a missing bucket, /health is answered with {status}"
    assert_equal(
        "the run that the client reads after its upload to a missing bucket",
        client.get_run(run_id).info.run_id,
        run_id,
    )
