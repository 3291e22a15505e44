"""Time limits of the tracking server for databases that take connections and say nothing."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest
import sqlalchemy
from mlflow_entrypoint import database_limits
from sqlalchemy import event
from sqlalchemy.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections, as the kernel of a frozen process does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from mlflow.store.db import utils

    monkeypatch.setattr(utils, "MAX_RETRY_COUNT", utils.MAX_RETRY_COUNT)
    monkeypatch.setattr(database_limits, "_silent_until", {})
    connect = database_limits.install()
    yield
    event.remove(Engine, "do_connect", connect)


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "mysql+pymysql"])
def test_connecting_ends(scheme: str, silent_port: int) -> None:
    url = f"{scheme}://somebody:secret@127.0.0.1:{silent_port}/any"
    engine = sqlalchemy.create_engine(url, connect_args={"connect_timeout": 2})
    began = time.monotonic()
    with pytest.raises(sqlalchemy.exc.OperationalError):
        engine.connect()
    assert time.monotonic() - began >= 1.5
    with pytest.raises(sqlalchemy.exc.OperationalError, match="a moment ago"):
        sqlalchemy.create_engine(url).connect()


@pytest.mark.usefixtures("limited")
def test_other_databases_connect_as_ever() -> None:
    with sqlalchemy.create_engine("sqlite://").connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT 7")).scalar() == 7
