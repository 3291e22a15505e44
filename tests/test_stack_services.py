"""Passwords of the trial's services: where they are, and where not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest

from seatrial import backends
from seatrial.backends.base import PASSWORD_PATH, ArtifactStore, Database, ServiceAddress
from seatrial.backends.minio import MinIO
from seatrial.backends.mysql import MySQL
from seatrial.errors import UserError
from seatrial.stack import server, services
from seatrial.stack.server import Stores, start_server
from seatrial.stack.services import Services
from seatrial.stack.settings import PROXIED, ServerSettings

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

PASSWORD = "s3cret-of-the-session"


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started."""
    monkeypatch.setattr("testcontainers.core.container.DockerClient", MagicMock())


ADDRESSES = {
    name: ServiceAddress(number, "10.0.0.1", "seatrial", PASSWORD)
    for number, name in enumerate(backends.in_services(each.name for each in backends.ENTRIES), 1)
}


def _described(service: DockerContainer) -> str:
    """Text that `docker inspect` shows of a container."""
    return f"{service.env} {service._command} {service._name} {service._kwargs}"


@pytest.mark.parametrize("name", ADDRESSES)
def test_services_find_their_password_in_a_file(name: str) -> None:
    service = backends.entry(name).load().container("image", PASSWORD)
    assert PASSWORD_PATH in service.env.values()
    assert PASSWORD not in _described(service)
    assert service._transferable_specs[0] == (PASSWORD.encode(), PASSWORD_PATH, 0o444)


def test_store_behind_https_finds_it_there_too() -> None:
    service, authority = MinIO.secured("image", "host", ADDRESSES["s3"])
    assert service.env["MINIO_ROOT_PASSWORD_FILE"] == PASSWORD_PATH
    assert PASSWORD not in _described(service)
    assert authority.startswith("-----BEGIN CERTIFICATE-----")


def test_address_of_a_store_behind_https() -> None:
    plain = MinIO(ADDRESSES["s3"])
    secured = MinIO(replace(ADDRESSES["s3"], host="store", authority="PEM"))
    assert plain.endpoint_everywhere == "http://10.0.0.1:9000"
    assert secured.endpoint_everywhere == "https://store:9000"
    assert secured.endpoint == plain.endpoint.replace("http", "https")


def test_backend_that_is_not_tried_over_tls() -> None:
    with pytest.raises(NotImplementedError, match="MySQL is not tried over TLS"):
        MySQL.secured("image", "host", ADDRESSES["mysql"])


def test_password_is_no_part_of_what_is_printed() -> None:
    running = Services(ADDRESSES)
    assert PASSWORD not in repr(running)
    assert Services.from_json(running.as_json()) == running


@pytest.mark.parametrize("entry", backends.ENTRIES, ids=lambda entry: entry.name)
def test_each_backend_is_what_its_promise_says(entry: backends.BackendEntry) -> None:
    kind = Database if entry.promised_by == backends.DATABASES_KEY else ArtifactStore
    assert issubclass(entry.load(), kind)
    entry.load()()
    assert ("secured" in vars(entry.load())) is entry.tls


def test_backend_that_there_is_not() -> None:
    with pytest.raises(UserError) as error:
        backends.entry("oracle")
    known = ", ".join(each.name for each in backends.ENTRIES)
    assert str(error.value) == f"unknown database or store 'oracle': known are {known}"


def test_service_that_was_not_started() -> None:
    with pytest.raises(ValueError, match="MySQL is used, and its service was not started"):
        Services({}).of(MySQL)
    with pytest.raises(ValueError, match="PostgreSQL is used, and its service was not started"):
        services.database("postgresql", None).url("runs")


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
        running=Services(ADDRESSES),
        name="server-1",
    )
    [(words, options)] = made
    assert PASSWORD not in f"{words[2:]} {options}"
