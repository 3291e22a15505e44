"""Passwords of the trial's services: where they are, and where not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest

from seatrial.stack import server, services
from seatrial.stack.server import Stores, start_server
from seatrial.stack.services import PASSWORD_PATH, ServiceAddresses
from seatrial.stack.settings import PROXIED, ServerSettings

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

PASSWORD = "s3cret-of-the-session"


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started."""
    monkeypatch.setattr("testcontainers.core.container.DockerClient", MagicMock())


def _described(service: DockerContainer) -> str:
    """All that `docker inspect` shows of a container."""
    return f"{service.env} {service._command} {service._name} {service._kwargs}"


def test_services_find_their_password_in_a_file() -> None:
    session = MagicMock(network="seatrial-x", labels={})
    client = MagicMock()
    client.api.api_version = "1.44"
    started = services.Services(client, session, {"minio": "minio"})
    minio = started._minio("x-minio", "minio", "seatrial", PASSWORD)
    postgres = services._Postgres("postgres", username="seatrial", password=PASSWORD)
    mysql = services._MySql("mysql", username="root", password=PASSWORD)
    for service, variable in (
        (minio, "MINIO_ROOT_PASSWORD_FILE"),
        (postgres, "POSTGRES_PASSWORD_FILE"),
        (mysql, "MYSQL_ROOT_PASSWORD_FILE"),
    ):
        service._configure()
        assert service.env[variable] == PASSWORD_PATH
        assert PASSWORD not in _described(service)
        assert service._transferable_specs[0] == (PASSWORD.encode(), PASSWORD_PATH, 0o444)


def test_password_is_no_part_of_what_is_printed() -> None:
    addresses = ServiceAddresses(1, 2, "10.0.0.1", "seatrial", PASSWORD)
    assert PASSWORD not in repr(addresses)
    assert ServiceAddresses(**addresses.as_json()) == addresses


@pytest.mark.parametrize(
    "settings",
    [
        *PROXIED,
        ServerSettings("mysql", database="mysql", store="s3", access="direct"),
        ServerSettings(
            "wrong", "sqlite", "file", "proxied", database_url=f"mysql://u:{PASSWORD}@db/x"
        ),
    ],
    ids=lambda settings: settings.name,
)
def test_servers_find_theirs_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, settings: ServerSettings
) -> None:
    made: list[Any] = []

    def container(*words: object, **options: object) -> MagicMock:
        made.append((words, options))
        return MagicMock()

    monkeypatch.setattr(server, "ImageContainer", container)
    image = MagicMock(server_command=["server"], workers=1)
    start_server(
        session=MagicMock(network="seatrial-x", labels={}),
        image=image,
        settings=settings,
        stores=Stores("database", "bucket", "volume"),
        services=ServiceAddresses(1, 2, "10.0.0.1", "seatrial", PASSWORD, 3),
        name="server-1",
    )
    [(words, options)] = made
    assert PASSWORD not in f"{words[2:]} {options}"
