"""Each database that an image promises, end to end on a server of that kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from seatrial.trial.clients import client_of, fresh_name

if TYPE_CHECKING:
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.server import Server
    from seatrial.stack.services import ServiceAddresses
    from seatrial.stack.settings import ServerSettings
    from seatrial.trial.fixtures import Launch
    from seatrial.trial.pool import ServerPool


def _log_and_look_behind(
    server: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    with client_of(server, monkeypatch) as client:
        name = fresh_name(request)
        run_id = client.create_run(client.create_experiment(name)).info.run_id
        client.log_param(run_id, "depth", "7")
        assert client.get_run(run_id).data.params == {"depth": "7"}
    stored = server.rows(
        "SELECT e.name, p.key, p.value FROM params p JOIN runs r ON r.run_uuid = p.run_uuid"
        " JOIN experiments e ON e.experiment_id = r.experiment_id WHERE r.run_uuid = ?",
        [run_id],
    )
    assert stored == [(name, "depth", "7")]


@pytest.mark.promise("server.databases", "postgresql")
def test_postgresql(
    postgresql_server: Server,
    services: ServiceAddresses,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    assert postgresql_server.settings.database == "postgresql"
    _log_and_look_behind(postgresql_server, monkeypatch, request)
    assert services.password not in postgresql_server.logs(10_000), (
        "the log shows the database password"
    )


@pytest.mark.promise("server.databases", "postgresql")
def test_postgresql_without_a_driver_in_the_url(
    servers: ServerPool,
    image: ImageUnderTest,
    services: ServiceAddresses,
    main_settings: ServerSettings,
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """SQLAlchemy picks a driver by its own version, so what it picks has to be there."""
    settings = replace(main_settings, name="plain-url", database="postgresql")
    stores = servers.fresh_stores(image, settings)
    plain = services.database_url(stores.database).replace("+psycopg2", "")
    settings = replace(settings, database_url=plain)
    _log_and_look_behind(launch(settings, stores=stores), monkeypatch, request)


@pytest.mark.promise("server.databases", "sqlite")
def test_sqlite(
    embedded_server: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    assert embedded_server.settings.database == "sqlite"
    _log_and_look_behind(embedded_server, monkeypatch, request)


@pytest.mark.promise("server.databases", "mysql")
def test_mysql(
    services: ServiceAddresses,
    main_settings: ServerSettings,
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """Read back, looked up behind the server, and still there in a container that replaces it."""
    settings = replace(main_settings, name="mysql", database="mysql")
    server = launch(settings)
    _log_and_look_behind(server, monkeypatch, request)
    with client_of(server, monkeypatch) as client:
        name = fresh_name(request)
        run_id = client.create_run(client.create_experiment(name)).info.run_id
        client.set_tag(run_id, "note", "größe 数値 🚢")
        for step in range(5):
            client.log_metric(run_id, "loss", 1 / (1 + step), step=step)
    assert server.rows(
        "SELECT step, value FROM metrics WHERE run_uuid = ? ORDER BY step", [run_id]
    ) == [(step, 1 / (1 + step)) for step in range(5)]
    assert services.password not in server.logs(10_000), "the log shows the database password"
    server.container.stop(timeout=30)
    with client_of(launch(settings, stores=server.stores), monkeypatch) as client:
        run = client.get_run(run_id)
        assert run.data.tags["note"] == "größe 数値 🚢"
        history = client.get_metric_history(run_id, "loss")
        assert [one.step for one in history] == [0, 1, 2, 3, 4]
        [found] = client.search_runs([run.info.experiment_id], "metrics.loss < 0.25")
        assert found.info.run_id == run_id
