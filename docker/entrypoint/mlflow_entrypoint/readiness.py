"""See that the databases are fit for the server before it starts.

MLflow initialises its databases in the process of `mlflow server`, before that starts the process
which serves, and it has no lock that another container would see. So this process takes a lock in
the database, becomes `mlflow server`, and gives the lock back when it starts that other process
(`handover`).
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from mlflow_entrypoint import databases, settings
from mlflow_entrypoint.errors import EntrypointError, say
from mlflow_entrypoint.locks import lock_of
from mlflow_entrypoint.schema import State, look
from mlflow_entrypoint.secrecy import mask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection

    from mlflow_entrypoint.databases import Database
    from mlflow_entrypoint.locks import Lock
    from mlflow_entrypoint.schema import Finding
    from mlflow_entrypoint.server import Server

_PAUSE = 0.5
"""Seconds between two attempts to take the lock."""


class _Looked(NamedTuple):
    database: Database
    finding: Finding


def prepare(
    server: Server, environment: Mapping[str, str], upgrade: Callable[[str], None]
) -> ExitStack | None:
    """Wait for the server's databases, and make them ready as far as MLflow doesn't do it itself.

    Args:
        server: the one to be started.
        environment: its variables.
        upgrade: brings the schema of a URL up to date, as `mlflow db upgrade` does.

    Returns:
        where MLflow has to initialise one, the lock, to be closed when that is done.

    Raises:
        EntrypointError: a database can't be reached, or its schema doesn't fit.
    """
    wanted = databases.of(server, environment)
    limit = settings.seconds(environment, settings.DATABASE_WAIT)
    asked = settings.switch(environment, settings.SCHEMA_UPGRADE)
    lock_limit = settings.seconds(environment, settings.SCHEMA_LOCK_WAIT)
    deadline = time.monotonic() + limit
    with ExitStack() as stack:
        connections = [
            stack.enter_context(databases.connect(one, environment, deadline, limit))
            for one in wanted
        ]
        if _fit(server, wanted, connections, asked=asked):
            return None
        lock = lock_of(connections[0])
        _take(lock, lock_limit)
        stack.callback(lock.release)
        if _fit(server, wanted, connections, asked=asked):
            return None
        for one in _look(wanted, connections):
            if one.finding.needs_upgrade:
                name = mask(one.database.url)
                say(f"upgrading the schema of {name} from {one.finding.found}")
                upgrade(one.database.url)
                say(f"the schema of {name} is {one.finding.expected} now")
        return stack.pop_all()


def _fit(
    server: Server,
    wanted: Sequence[Database],
    connections: Sequence[Connection],
    *,
    asked: bool,
) -> bool:
    """Whether there is nothing to be done.

    Raises:
        EntrypointError: there is something that this start must not, or can't, do.
    """
    looked = _look(wanted, connections)
    for database, finding in looked:
        name = mask(database.url)
        if finding.state is State.NEWER:
            raise EntrypointError(
                f"the database {name} has the schema {finding.found} of a newer MLflow, this"
                f" image's is {finding.expected}: run a newer image, or restore the backup that"
                " was taken before the upgrade"
            )
        if finding.state is State.OLDER and not asked:
            from_variable = database.url == server.backend and server.backend_variable
            url = f"${{{from_variable}}}" if from_variable else name
            raise EntrypointError(
                f"the database {name} has the schema {finding.found} of an older MLflow, this"
                f" image's is {finding.expected}: take a backup, then run this image once with the"
                f" same environment and the command `db upgrade '{url}'`, or start it with"
                f" {settings.SCHEMA_UPGRADE}=true"
            )
    return all(finding.state is State.READY for _, finding in looked)


def _look(wanted: Sequence[Database], connections: Sequence[Connection]) -> list[_Looked]:
    from sqlalchemy.exc import DBAPIError

    looked = []
    for database, connection in zip(wanted, connections, strict=True):
        try:
            looked += [_Looked(database, look(connection, part)) for part in database.schemas]
        except DBAPIError as error:
            raise EntrypointError(
                f"the database {mask(database.url)} can't be read:"
                f" {databases.reason_of(error.orig)}"
            ) from None
    return looked


def _take(lock: Lock, limit: float) -> None:
    deadline = time.monotonic() + limit
    told = False
    while not lock.take():
        if time.monotonic() >= deadline:
            raise EntrypointError(
                f"another server was still making the database ready after {limit:g} s"
                f" ({settings.SCHEMA_LOCK_WAIT[0]})"
            )
        if not told:
            say("waiting: another server is making the database ready")
            told = True
        time.sleep(_PAUSE)
