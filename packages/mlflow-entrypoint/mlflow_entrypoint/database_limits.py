"""Time limits for a database that takes connections, or has, and does not answer.

A server that is frozen, or behind a network that drops packets, refuses nothing: without a limit of
the client every request that needs it waits for ever. The kernel of a frozen database goes on
acknowledging packets, so neither TCP's keep-alive nor `tcp_user_timeout` helps.
"""

from __future__ import annotations

import os
import select
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from mlflow_entrypoint import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import psycopg
    from psycopg.abc import RV, PQGen
    from sqlalchemy.engine import Dialect

CONNECT_SECONDS = 10
"""Limit of a connection, where the database's URL doesn't say otherwise (`connect_timeout`)."""
PAUSE = 2.0
"""Seconds in which nobody tries a database that has just let a connection time out: requests that
wait for one another at its creation would otherwise wait for each other's time limits too."""

_silent_until: dict[tuple[Any, ...], float] = {}


def install() -> Callable[..., object]:
    """Set the limits for every database that SQLAlchemy connects to in this process.

    Returns:
        what SQLAlchemy calls.

    Raises:
        EntrypointError: the setting is no number of seconds.
    """
    from mlflow.store.db import utils
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    limit = settings.seconds(os.environ, settings.DATABASE_TIMEOUT)
    # The entry point has waited for the database. Ten attempts here take minutes, in one request.
    utils.MAX_RETRY_COUNT = 1

    @event.listens_for(Engine, "do_connect")
    def connect(
        dialect: Dialect, _record: object, words: Sequence[str], options: dict[str, Any]
    ) -> object:
        return _connect(dialect, words, options, limit)

    return connect


def _connect(
    dialect: Dialect, words: Sequence[str], options: dict[str, Any], limit: float
) -> object:
    """Connect as SQLAlchemy would, with time limits; None for drivers that need none."""
    if dialect.driver not in _DRIVERS:
        return None
    where = (dialect.driver, options.get("host"), options.get("port"))
    failure = dialect.loaded_dbapi.OperationalError
    if time.monotonic() < _silent_until.get(where, 0.0):
        raise failure("the database did not answer a moment ago: not tried again yet")
    asked = "" if dialect.driver == "pymysql" else os.environ.get("PGCONNECT_TIMEOUT", "")
    options["connect_timeout"] = int(options.get("connect_timeout") or asked or CONNECT_SECONDS)
    started = time.monotonic()
    try:
        return _DRIVERS[dialect.driver](words, options, limit)
    except failure:
        if time.monotonic() - started >= (options["connect_timeout"] or CONNECT_SECONDS):
            _silent_until[where] = time.monotonic() + PAUSE
        raise


def _silence(limit: float) -> str:
    name = settings.DATABASE_TIMEOUT[0]
    return f"the database did not answer within {limit:g} s ({name}): the connection is closed"


@cache
def _psycopg_connection(limit: float) -> type[psycopg.Connection[Any]]:
    import psycopg
    from psycopg.errors import _WaitTimeout

    class Connection(psycopg.Connection[Any]):
        def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
            try:
                return super().wait(gen, interval, timeout or limit or None)
            except _WaitTimeout as error:
                # Where its protocol stands is not known any more.
                self.pgconn.finish()
                raise psycopg.OperationalError(_silence(limit)) from error

    return Connection


def _connect_psycopg(words: Sequence[str], options: dict[str, Any], limit: float) -> object:
    return _psycopg_connection(limit).connect(*words, **options)


def _connect_psycopg2(words: Sequence[str], options: dict[str, Any], limit: float) -> object:
    import psycopg2
    from psycopg2 import extensions

    connect_limit = options["connect_timeout"]
    connected = (extensions.STATUS_READY, extensions.STATUS_BEGIN, extensions.STATUS_PREPARED)
    events = {extensions.POLL_READ: select.POLLIN, extensions.POLL_WRITE: select.POLLOUT}

    def wait(connection: psycopg2.extensions.connection) -> None:
        while (state := connection.poll()) != extensions.POLL_OK:
            longest = limit if connection.status in connected else connect_limit
            poller = select.poll()
            poller.register(connection.fileno(), events[state])
            # Psycopg closes the connection when this fails.
            if not poller.poll(longest * 1000 if longest else None):
                raise psycopg2.OperationalError(_silence(longest))

    # Of the process; the limit is the same for all of its databases.
    extensions.set_wait_callback(wait)
    return psycopg2.connect(*words, **options)


def _connect_pymysql(words: Sequence[str], options: dict[str, Any], limit: float) -> object:
    import pymysql

    asked = "read_timeout" in options
    options.setdefault("read_timeout", options["connect_timeout"])
    options.setdefault("write_timeout", limit or None)
    connection = pymysql.connect(*words, **options)
    if not asked:
        # PyMySQL knows no other limit for the answers with which a connection begins.
        vars(connection)["_read_timeout"] = limit or None
    return connection


_DRIVERS = {
    "psycopg": _connect_psycopg,
    "psycopg2": _connect_psycopg2,
    "pymysql": _connect_pymysql,
}
