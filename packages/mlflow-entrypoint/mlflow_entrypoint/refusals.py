"""Tell whether waiting for a database can help, by the kind of an error and never by its words.

Servers and libraries say the same thing in many languages and versions. What they agree on is a
code: SQLSTATE for PostgreSQL, numbers for MySQL and SQLite.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg.pq.abc import PGconn
    from sqlalchemy import URL
    from sqlalchemy.exc import DBAPIError

_TRANSIENT_STATES = ("08", "53", "57", "58")
"""Classes of SQLSTATE: connections, resources, what an operator does (start, stop), the system."""
_TRANSIENT_MYSQL = frozenset(
    {1040, 1053, 1077, 1078, 1080, 1152, 1203, 2002, 2003, 2006, 2013, 2055}
)
"""Connections, too many of them, start and stop."""
_TRANSIENT_SQLITE = frozenset({5, 6})
"""SQLITE_BUSY and SQLITE_LOCKED."""
_SQLITE_PRIMARY = 0xFF
"""An extended code holds the primary one in these bits."""
_TRACE_SECONDS = 5.0
_SERVER, _CLIENT = "B", "F"
"""Sender of a message, in the trace of PostgreSQL's library."""
_ERROR, _READY = "ErrorResponse", "ReadyForQuery"


def is_final(error: DBAPIError, url: URL) -> bool:
    """Tell whether no waiting mends that a connection to `url` has failed with `error`."""
    from sqlalchemy.exc import InterfaceError, OperationalError

    if not isinstance(error, OperationalError | InterfaceError):
        return True
    cause = error.orig
    match url.get_backend_name():
        case "postgresql":
            state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
            if state:
                return not str(state).startswith(_TRANSIENT_STATES)
            return _is_refused_by_postgresql(url)
        case "mysql" | "mariadb":
            if isinstance(getattr(cause, "original_exception", None), ssl.SSLError):
                return True
            number = cause.args[0] if cause and cause.args else None
            return isinstance(number, int) and number not in _TRANSIENT_MYSQL
        case "sqlite":
            code = getattr(cause, "sqlite_errorcode", 0)
            return int(code) & _SQLITE_PRIMARY not in _TRANSIENT_SQLITE
        case _:
            return False


def is_busy(error: Exception) -> bool:
    """Tell whether another process holds a lock of an SQLite file; other databases let one wait."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)
    return code & _SQLITE_PRIMARY in _TRANSIENT_SQLITE


def _is_refused_by_postgresql(url: URL) -> bool:
    """Connect once more, and look who ended it.

    The drivers give no SQLSTATE for a connection that has failed. The library writes one into its
    trace of messages.
    """
    try:
        from psycopg import Error, conninfo, pq
    except ImportError:
        return False
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    _, parameters = url.get_dialect()().create_connect_args(url)
    given = {name: str(value) for name, value in parameters.items() if name in known}
    connection = pq.PGconn.connect_start(conninfo.make_conninfo("", **given).encode())
    try:
        messages = _trace(connection)
        if not messages:
            return _is_there(given)
        return connection.needs_password or _ended_for_good(messages)
    except Error:
        return False  # the library has lost the connection while it was looked at
    finally:
        connection.finish()


def _trace(connection: PGconn) -> list[list[str]]:
    """The messages of a connection that is being made: sender, length, name, content of each."""
    from psycopg import pq

    deadline = time.monotonic() + _TRACE_SECONDS
    # In memory: a password may be among the messages.
    with os.fdopen(os.memfd_create("trace", os.MFD_CLOEXEC), "rb") as file:
        if connection.status == pq.ConnStatus.BAD:
            return []
        connection.trace(file.fileno())
        while time.monotonic() < deadline:
            state = connection.connect_poll()
            if state in (pq.PollingStatus.OK, pq.PollingStatus.FAILED):
                break
            poller = select.poll()
            reads = state == pq.PollingStatus.READING
            poller.register(connection.socket, select.POLLIN if reads else select.POLLOUT)
            poller.poll((deadline - time.monotonic()) * 1000)
        connection.untrace()
        file.seek(0)
        lines = file.read().decode(errors="replace").splitlines()
    return [words[1:] for line in lines if len(words := line.split("\t")) > 2]


def _ended_for_good(messages: list[list[str]]) -> bool:
    """Tell whether the server has refused the client, or the client the server.

    Where the client has spoken last, the server has gone away, or never got that far.
    """
    sender, name, *content = messages[-1][0], *messages[-1][2:]
    if sender != _SERVER or name == _READY:
        return False
    if name == _ERROR:
        fields = " ".join(content).split('C "')[1:]
        return bool(fields) and not fields[0].startswith(_TRANSIENT_STATES)
    return True


def _is_there(given: Mapping[str, str]) -> bool:
    """Tell if somebody listens to whom the library has not even spoken: its parameters are wrong.

    For one host by TCP; of several, or of a socket, the library itself would have to choose.
    """
    host, port = given.get("hostaddr") or given.get("host", ""), given.get("port") or "5432"
    if not host or "," in host or host.startswith(("/", "@")):
        return False
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False
