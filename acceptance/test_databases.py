"""Each database that an image promises, end to end on a server of that kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from seatrial.trial.clients import client_of, fresh_name

if TYPE_CHECKING:
    from seatrial.stack.server import Server
    from seatrial.stack.services import ServiceAddresses
    from seatrial.stack.settings import ServerSettings
    from seatrial.stack.subject import Subject
    from seatrial.trial.fixtures import Launch
    from seatrial.trial.state import Trial


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
    trial: Trial,
    subject: Subject,
    services: ServiceAddresses,
    main_settings: ServerSettings,
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """SQLAlchemy picks a driver by its own version, so what it picks has to be there."""
    settings = replace(main_settings, name="plain-url", database="postgresql")
    stores = trial.fresh_stores(subject, settings)
    plain = services.database_url(stores.database).replace("+psycopg2", "")
    settings = replace(settings, database_url=plain)
    _log_and_look_behind(launch(settings, stores=stores), monkeypatch, request)


@pytest.mark.promise("server.databases", "sqlite")
def test_sqlite(
    embedded_server: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    assert embedded_server.settings.database == "sqlite"
    _log_and_look_behind(embedded_server, monkeypatch, request)
