"""Each database that an image promises, end to end on a server of that kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from seatrial.backends.mysql import MySQL
from seatrial.backends.postgresql import PostgreSQL

from .comparisons import assert_equal, assert_hidden

if TYPE_CHECKING:
    from collections.abc import Callable

    from seatrial.stack.server import MLflowServer
    from seatrial.stack.services import Services
    from seatrial.stack.settings import ServerSettings
    from seatrial.trial.fixtures import ClientFor, Launch, NewName, NewRun

    from .factories import LaunchMain, NewStores


@pytest.fixture
def assert_database_used(
    client_for: ClientFor, new_name: NewName
) -> Callable[[MLflowServer], None]:
    """Log a parameter, and require it in the database behind the server."""

    def check(server: MLflowServer) -> None:
        client, name = client_for(server), new_name()
        run_id = client.create_run(client.create_experiment(name)).info.run_id
        client.log_param(run_id, "depth", "7")
        assert_equal(
            "the set of params that the client reads of its run",
            client.get_run(run_id).data.params,
            {"depth": "7"},
        )
        stored = server.rows(
            "SELECT e.name, p.key, p.value FROM params p JOIN runs r ON r.run_uuid = p.run_uuid"
            " JOIN experiments e ON e.experiment_id = r.experiment_id WHERE r.run_uuid = ?",
            [run_id],
        )
        database = server.settings.database
        assert_equal(
            f"the param that the client logged, with its experiment, in the {database} database",
            stored,
            [(name, "depth", "7")],
        )

    return check


@pytest.mark.promise("server.databases", "postgresql")
def test_postgresql(
    postgresql_server: MLflowServer,
    services: Services,
    assert_database_used: Callable[[MLflowServer], None],
) -> None:
    _assert_database(postgresql_server, "postgresql")
    assert_database_used(postgresql_server)
    password = services.of(PostgreSQL).address.password
    assert_hidden("the server's log", password, postgresql_server.logs(10_000))


@pytest.mark.promise("server.databases", "postgresql")
def test_postgresql_without_a_driver_in_the_url(
    services: Services,
    main_settings: ServerSettings,
    new_stores: NewStores,
    launch: Launch,
    assert_database_used: Callable[[MLflowServer], None],
) -> None:
    """SQLAlchemy picks a driver by its own version, and the image must hold that driver."""
    settings = replace(main_settings, name="plain-url", database="postgresql")
    stores = new_stores(settings)
    plain = services.of(PostgreSQL).url(stores.database).replace("+psycopg2", "")
    settings = replace(settings, database_url=plain)
    server = launch(settings, stores=stores)

    assert_database_used(server)


@pytest.mark.promise("server.databases", "sqlite")
def test_sqlite(
    embedded_server: MLflowServer, assert_database_used: Callable[[MLflowServer], None]
) -> None:
    _assert_database(embedded_server, "sqlite")
    assert_database_used(embedded_server)


@pytest.mark.promise("server.databases", "mysql")
def test_mysql(
    services: Services,
    launch_main: LaunchMain,
    assert_database_used: Callable[[MLflowServer], None],
    client_for: ClientFor,
    new_run: NewRun,
) -> None:
    """MySQL keeps what was logged for a container that replaces the first one."""
    server = launch_main(name="mysql", database="mysql")
    assert_database_used(server)

    client = client_for(server)
    run_id = new_run(client)
    client.set_tag(run_id, "note", "größe 数値 🚢")
    for step in range(5):
        client.log_metric(run_id, "loss", 1 / (1 + step), step=step)
    assert_equal(
        "the list of steps and values of the metric in the database",
        server.rows("SELECT step, value FROM metrics WHERE run_uuid = ? ORDER BY step", [run_id]),
        [(step, 1 / (1 + step)) for step in range(5)],
    )
    assert_hidden("the server's log", services.of(MySQL).address.password, server.logs(10_000))

    server.container.stop(timeout=30 * server.image.scale)
    client = client_for(launch_main(name="mysql", database="mysql", stores=server.stores))

    run = client.get_run(run_id)
    history = client.get_metric_history(run_id, "loss")
    found = client.search_runs([run.info.experiment_id], "metrics.loss < 0.25")
    for read_back, read, written in (
        ("tag that the client reads", run.data.tags.get("note"), "größe 数値 🚢"),
        ("history's steps that the client reads", [point.step for point in history], [*range(5)]),
        ("list of runs that a search finds", [run.info.run_id for run in found], [run_id]),
    ):
        assert_equal(f"the {read_back} of the next container on the same database", read, written)


def _assert_database(server: MLflowServer, database: str) -> None:
    found = server.settings.database
    assert found == database, f"the trial is at fault: its server for {database} is on {found}"
