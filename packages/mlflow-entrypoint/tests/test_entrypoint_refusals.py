"""The entry point: which errors of a database no waiting mends, by their codes."""

from __future__ import annotations

import socket
import sqlite3
import ssl
import time
from typing import TYPE_CHECKING

import pymysql
import pytest
import sqlalchemy
from mlflow_entrypoint import refusals
from psycopg import errors
from sqlalchemy import make_url
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError
from test_entrypoint_databases import _answering, _postgresql

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AUTHENTICATED = b"R\0\0\0\x08\0\0\0\0"
READY = b"Z\0\0\0\x05I"
ASKS_FOR_A_PASSWORD = b"R\0\0\0\x08\0\0\0\x03"
NOTICE = b"N\0\0\0\x1dSNOTICE\0VNOTICE\0C00000\0\0"


def _is_final(cause: BaseException, url: str) -> bool:
    return refusals.is_final(OperationalError("SELECT 1", {}, cause), make_url(url))


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (errors.InvalidPassword, True),
        (errors.InvalidCatalogName, True),
        (errors.InsufficientPrivilege, True),
        (errors.ConnectionFailure, False),
        (errors.TooManyConnections, False),
        (errors.CannotConnectNow, False),
        (errors.AdminShutdown, False),
        (errors.IoError, False),
    ],
)
def test_errors_of_postgresql(error: type[Exception], final: bool) -> None:
    assert _is_final(error("no cxdir de loc"), "postgresql://db/x") is final


def test_errors_of_the_older_driver_have_their_code_too() -> None:
    """Nobody listens at this address: the code alone decides."""
    cause = Exception("no cxdir de loc")
    for code, final in (("28P01", True), ("57P03", False)):
        cause.pgcode = code  # type: ignore[attr-defined]
        assert _is_final(cause, "postgresql+psycopg2://127.0.0.1:1/x") is final


@pytest.mark.parametrize("scheme", ["mysql+pymysql", "mariadb+pymysql"])
@pytest.mark.parametrize(
    ("number", "final"),
    [
        *((1045, True), (1049, True), (3159, True)),
        *((1040, False), (1053, False), (1077, False), (1078, False), (1080, False)),
        *((1152, False), (1203, False), (2002, False), (2003, False), (2006, False)),
        *((2013, False), (2055, False)),
    ],
)
def test_errors_of_mysql(scheme: str, number: int, final: bool) -> None:
    error = pymysql.err.OperationalError(number, "no cxdir de loc")
    assert _is_final(error, f"{scheme}://db/x") is final


def test_mysql_without_a_number_is_waited_for() -> None:
    for error in (pymysql.err.OperationalError(), pymysql.err.OperationalError("gone")):
        assert not _is_final(error, "mysql+pymysql://db/x")


def test_certificate_that_is_refused_stays_refused() -> None:
    error = pymysql.err.OperationalError(2003, "Can't connect")
    error.original_exception = ssl.SSLCertVerificationError(1, "unknown authority")  # type: ignore[attr-defined]
    assert _is_final(error, "mysql+pymysql://db/x")
    error.original_exception = ConnectionRefusedError(111, "refused")  # type: ignore[attr-defined]
    assert not _is_final(error, "mysql+pymysql://db/x")


def test_statement_that_is_wrong_stays_wrong() -> None:
    """Whatever its database says; a lost connection is the driver's, and waited for."""
    cause = errors.AdminShutdown("no cxdir de loc")
    url = make_url("postgresql://db/x")
    assert refusals.is_final(ProgrammingError("SELECT 1", {}, cause), url)
    assert not refusals.is_final(InterfaceError("SELECT 1", {}, cause), url)


def test_other_databases_are_waited_for() -> None:
    assert not _is_final(Exception("down"), "mssql+pyodbc://db/x")


def _sqlite_error(path: Path, statement: str) -> OperationalError:
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", connect_args={"timeout": 0})
    with pytest.raises(OperationalError) as failure, engine.connect() as connection:
        connection.execute(sqlalchemy.text(statement))
    engine.dispose()
    return failure.value


def test_sqlite_file_that_another_process_writes_to(tmp_path: Path) -> None:
    path = tmp_path / "busy.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    error = _sqlite_error(path, "CREATE TABLE a (b INT)")
    other.close()
    assert refusals.is_busy(error)
    assert not refusals.is_final(error, make_url("sqlite://"))


def test_sqlite_file_that_is_not_there(tmp_path: Path) -> None:
    error = _sqlite_error(tmp_path / "none" / "a.db", "SELECT 1")
    assert not refusals.is_busy(error)
    assert refusals.is_final(error, make_url("sqlite://"))
    assert not refusals.is_busy(ValueError("no error of a database"))


def _speaking(*messages: bytes) -> Callable[[socket.socket], None]:
    """Answer as PostgreSQL does, without TLS, and hang up."""

    def answer(client: socket.socket) -> None:
        client.settimeout(2)
        client.recv(8)
        client.sendall(b"N")
        client.recv(1024)
        for message in messages:
            client.sendall(message)
        time.sleep(0.1)

    return answer


@pytest.mark.parametrize(
    ("answer", "final"),
    [
        (_postgresql("28P01"), True),
        (_postgresql("08006"), False),
        (_postgresql("58030"), False),
        (_postgresql("57P03"), False),
        (_postgresql(""), False),
        (_speaking(AUTHENTICATED, READY), False),
        (_speaking(ASKS_FOR_A_PASSWORD), True),
    ],
)
def test_server_that_ends_a_connection_without_a_code(
    answer: Callable[[socket.socket], None], final: bool
) -> None:
    """The driver's error has none: one more connection shows who has ended it."""
    with _answering(answer) as port:
        url = f"postgresql+psycopg://u@127.0.0.1:{port}/x"
        assert _is_final(Exception("connection failed"), url) is final


@pytest.mark.parametrize(
    ("host", "final"),
    [
        ("host=127.0.0.1&port={}", True),
        ("host=127.0.0.1:{0}&host=127.0.0.1:{0}", False),
        ("host=/tmp&port={}", False),
        ("host=@abstract&port={}", False),
        ("port={}", False),
    ],
)
def test_parameters_are_wrong_where_somebody_listens(host: str, final: bool) -> None:
    """Of several hosts, or of a socket, the library would have chosen one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        url = f"postgresql+psycopg://u@/x?{host.format(port)}&sslmode=often"
        assert _is_final(Exception("invalid sslmode"), url) is final
    assert not _is_final(Exception("invalid sslmode"), url), "nobody listens any more"
