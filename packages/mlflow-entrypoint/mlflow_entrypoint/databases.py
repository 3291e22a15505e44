"""Reach the databases of a server, and wait for one that is starting."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_entrypoint import authentication, refusals, schema
from mlflow_entrypoint.addresses import secrets_of_store, shown
from mlflow_entrypoint.errors import EntrypointError, say
from mlflow_entrypoint.secrecy import KNOWN
from mlflow_entrypoint.time_limit import time_limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import URL, Connection, Engine

    from mlflow_entrypoint.schema import Schema
    from mlflow_entrypoint.server import Server

_DIALECTS = ("postgresql", "postgres", "mysql", "mariadb", "sqlite", "mssql")
_IN_MEMORY = ("", ":memory:")
_PAUSE = 0.5
"""Seconds between two attempts."""
_ATTEMPT = 10
"""The longest that one attempt takes, in seconds."""
_TIMEOUT_NAMES = {"psycopg2": "connect_timeout", "psycopg": "connect_timeout"} | {
    "pymysql": "connect_timeout",
    "mysqldb": "connect_timeout",
    "sqlite": "timeout",
}
"""Drivers' names for the time that a connection may take; pysqlite waits for locks with it."""
_MYSQL_CERTIFICATES = {
    "ssl_ca": "MLFLOW_MYSQL_SSL_CA",
    "ssl_cert": "MLFLOW_MYSQL_SSL_CERT",
    "ssl_key": "MLFLOW_MYSQL_SSL_KEY",
}


class Database(NamedTuple):
    """Database of a server."""

    url: str
    schemas: tuple[Schema, ...]
    """Schemas that MLflow keeps in it; none where it only reads."""


def of(server: Server, environment: Mapping[str, str]) -> list[Database]:
    """The databases that MLflow opens at its start, the one that holds the lock first."""
    wanted: dict[str, list[Schema]] = {}
    if server.backend:
        wanted.setdefault(server.backend, []).append(schema.TRACKING)
        registry = server.registry or server.backend
        if registry != server.backend:
            wanted.setdefault(registry, []).append(schema.REGISTRY)
        if server.read_replica:
            wanted.setdefault(server.read_replica, [])
    if server.workspaces:
        wanted.setdefault(server.workspaces, [])
    if server.authenticates:
        settings = authentication.read(environment)
        if users := settings.get("database_uri"):
            wanted.setdefault(users, []).append(schema.USERS)
        if replica := settings.get("read_database_uri"):
            wanted.setdefault(replica, [])
    return [Database(url, tuple(schemas)) for url, schemas in wanted.items() if _is_database(url)]


def _is_database(url: str) -> bool:
    """Tell whether `url` names a database that others see, by a path if it's a file.

    MLflow keeps data elsewhere as well, and may have plugins.
    """
    scheme, separator, rest = url.partition("://")
    path = rest.removeprefix("/")
    plain = not scheme.startswith("sqlite") or (path not in _IN_MEMORY and path[:5] != "file:")
    return bool(separator) and scheme.partition("+")[0] in _DIALECTS and plain


def connect(
    database: Database, environment: Mapping[str, str], deadline: float, limit: float
) -> Connection:
    """Open a connection in autocommit mode, and wait for a database that is starting.

    Args:
        database: which.
        environment: for MySQL's certificates.
        deadline: when to give up, by the monotonic clock.
        limit: the whole wait in seconds, for the message.

    Raises:
        EntrypointError: waiting can't help, or the wait is over.
    """
    name = shown(database.url)
    told = False
    while True:
        engine = _engine(database.url, environment, deadline)
        silent = (
            f"the database {name} did not answer within {limit:g} s (MLFLOW_DATABASE_WAIT):"
            " it accepts connections only"
        )
        try:
            with time_limit(max(0.0, deadline - time.monotonic()) + _ATTEMPT, silent):
                return engine.connect()
        except errors() as error:
            reason = reason_of(error)
            if _is_final(error, engine.url):
                raise EntrypointError(f"the database {name} can't be used: {reason}") from None
        if time.monotonic() >= deadline:
            raise EntrypointError(
                f"the database {name} did not answer within {limit:g} s"
                f" (MLFLOW_DATABASE_WAIT): {reason}"
            )
        if not told:
            say(f"waiting up to {limit:g} s for the database {name}: {reason}")
            told = True
        time.sleep(min(_PAUSE, max(0.0, deadline - time.monotonic())))


def _engine(url: str, environment: Mapping[str, str], deadline: float) -> Engine:
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    from sqlalchemy.pool import NullPool

    KNOWN.learn(secrets_of_store(url))
    name = shown(url)
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            _make_folder(parsed)
        return create_engine(
            parsed,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args=_connect_arguments(parsed, environment, deadline),
        )
    except NoSuchModuleError:
        hint = ": it is spelled postgresql" if url.startswith("postgres:") else ""
        raise EntrypointError(f"'{name}' has a scheme that this image doesn't know{hint}") from None
    except (ArgumentError, ValueError):
        raise EntrypointError(f"'{name}' is no URL of a database") from None
    except ModuleNotFoundError as error:
        raise EntrypointError(
            f"the database {name} needs the driver {error.name}, which this image doesn't have"
        ) from None


def _make_folder(url: URL) -> None:
    """Make the folder of an SQLite file, as MLflow does."""
    folder = Path(str(url.database)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EntrypointError(
            f"the folder {folder} of an SQLite database can't be made: {error.strerror}"
        ) from None


def _connect_arguments(url: URL, environment: Mapping[str, str], deadline: float) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    backend = url.get_backend_name()
    driver = url.get_driver_name()
    option = _TIMEOUT_NAMES.get("sqlite" if backend == "sqlite" else driver)
    if option and option not in url.query:
        left = int(deadline - time.monotonic())
        arguments[option] = max(2, min(_ATTEMPT, left))  # libpq takes less than 2 for 2
    if backend in ("mysql", "mariadb"):
        arguments |= {
            name: environment[variable]
            for name, variable in _MYSQL_CERTIFICATES.items()
            if environment.get(variable)
        }
    return arguments


def errors() -> tuple[type[Exception], ...]:
    """Import the errors that SQLAlchemy and the drivers raise.

    Drivers raise Python's own errors for parameters that they don't know, for passwords that they
    can't encode, and for a library that they miss.
    """
    from sqlalchemy.exc import SQLAlchemyError

    return (SQLAlchemyError, TypeError, ValueError, RuntimeError, OSError)


def _is_final(error: Exception, url: URL) -> bool:
    from sqlalchemy.exc import DBAPIError

    if isinstance(error, DBAPIError):
        return refusals.is_final(error, url)
    return not isinstance(error, OSError)


def reason_of(error: BaseException) -> str:
    """Give a driver's message, in one line without the secrets that this program knows."""
    cause = getattr(error, "orig", None) or error
    text = str(cause.args[-1] if cause.args else cause)
    return " ".join(KNOWN.mask(text).split())[:400] or type(cause).__name__
