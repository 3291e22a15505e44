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

from mlflow_entrypoint import authentication, databases, privileges, refusals, settings
from mlflow_entrypoint.addresses import shown
from mlflow_entrypoint.errors import EntrypointError, say
from mlflow_entrypoint.locks import lock_of
from mlflow_entrypoint.schema import USERS, State, look
from mlflow_entrypoint.time_limit import time_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection

    from mlflow_entrypoint.databases import Database
    from mlflow_entrypoint.locks import Lock
    from mlflow_entrypoint.schema import DatabaseFinding, Schema
    from mlflow_entrypoint.server import Server

_PAUSE = 0.5
"""Seconds between two attempts to take the lock."""


_ANSWER = 10.0
"""Seconds that an answer of the database may take, however short the waits are set."""
_LOCK_WAIT = settings.SCHEMA_LOCK_WAIT[0]


class _Turn(NamedTuple):
    """Wait of a server until it's its turn to make the database ready."""

    limit: float
    """Limit in seconds."""
    deadline: float
    """The same by the monotonic clock."""
    answer: float
    """Seconds for one answer of the database."""

    def left(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self.deadline - time.monotonic())


class _Looked(NamedTuple):
    database: Database
    finding: DatabaseFinding


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
            stack.enter_context(databases.connect(database, environment, deadline, limit))
            for database in wanted
        ]
        turn = _Turn(lock_limit, time.monotonic() + lock_limit, max(limit, _ANSWER))
        looked = _look(wanted, connections, turn)
        if _fit(server, looked, asked=asked):
            return None
        _check_first_starts(looked, environment)
        for database, connection in zip(wanted, connections, strict=True):
            if any(
                looked_at.database is database and looked_at.finding.found == ""
                for looked_at in looked
            ):
                privileges.check(connection, shown(database.url))
        lock = lock_of(connections[0])
        _take(lock, wanted[0], turn)
        stack.callback(_give_back, lock)
        looked = _look(wanted, connections, turn)
        if _fit(server, looked, asked=asked):
            return None
        for looked_at in looked:
            if looked_at.finding.needs_upgrade:
                _upgrade(looked_at, upgrade)
            elif looked_at.finding.state is State.OUTDATED:
                name = shown(looked_at.database.url)
                say(
                    f"MLflow upgrades the schema of its users in {name} from"
                    f" {looked_at.finding.found or 'an early release'}"
                )
        return stack.pop_all()


def _check_first_starts(looked: Sequence[_Looked], environment: Mapping[str, str]) -> None:
    """See that users can be made where there is none."""
    for _, finding in looked:
        if finding.schema is USERS and finding.state is State.UNFINISHED:
            authentication.check_first_start(environment)


def _upgrade(looked_at: _Looked, upgrade: Callable[[str], None]) -> None:
    name = shown(looked_at.database.url)
    say(f"upgrading the schema of {name} from {looked_at.finding.found or 'an early release'}")
    try:
        upgrade(looked_at.database.url)
    except (*databases.errors(), *_errors_of_migrations()) as error:
        raise EntrypointError(
            f"the schema of {name} could not be upgraded: {databases.reason_of(error)}"
        ) from None
    say(f"the schema of {name} is {looked_at.finding.expected} now")


def _errors_of_migrations() -> tuple[type[Exception], ...]:
    from alembic.util.exc import CommandError
    from click import ClickException
    from mlflow.exceptions import MlflowException

    return (CommandError, ClickException, MlflowException, LookupError)


def _named(finding: DatabaseFinding) -> str:
    return f"the schema {finding.found}" if finding.found else "an early schema"


def _fit(server: Server, looked: Sequence[_Looked], *, asked: bool) -> bool:
    """Tell whether there is nothing to be done.

    Raises:
        EntrypointError: there is something that this start must not, or can't, do.
    """
    for database, finding in looked:
        name = shown(database.url)
        if finding.state is State.FOREIGN:
            raise EntrypointError(
                f"the database {name} holds {finding.holds}, and nothing was written to it: give"
                f" the server's {finding.schema.contents} a database of their own"
            )
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
                f"the database {name} has {_named(finding)} of an older MLflow, this"
                f" image's is {finding.expected}: take a backup, then run this image once with the"
                f" same environment and the command `db upgrade '{url}'`, or start it with"
                f" {settings.SCHEMA_UPGRADE}=true"
            )
    return all(finding.state is State.READY for _, finding in looked)


def _look(
    wanted: Sequence[Database], connections: Sequence[Connection], turn: _Turn
) -> list[_Looked]:
    return [
        _Looked(database, _finding(database, connection, part, turn))
        for database, connection in zip(wanted, connections, strict=True)
        for part in database.schemas
    ]


def _finding(
    database: Database, connection: Connection, part: Schema, turn: _Turn
) -> DatabaseFinding:
    """Look at one part; another server that upgrades it may hold its tables meanwhile.

    Raises:
        EntrypointError: it can't be read, or not in time.
    """
    name = shown(database.url)
    held = (
        f"the database {name} could not be read within {turn.limit:g} s ({_LOCK_WAIT}): another"
        " server holds its tables, or it has stopped answering"
    )
    while True:
        try:
            with time_limit(turn.left() + _ANSWER, held):
                return look(connection, part)
        except databases.errors() as error:
            if not refusals.is_busy(error):
                reason = databases.reason_of(error)
                raise EntrypointError(f"the database {name} can't be read: {reason}") from None
        if not turn.left():
            raise EntrypointError(held)
        time.sleep(_PAUSE)


def _take(lock: Lock, database: Database, turn: _Turn) -> None:
    name = shown(database.url)
    silent = (
        f"the database {name} did not answer within {turn.answer:g} s, while another server was"
        " making it ready"
    )
    told = False
    while True:
        try:
            with time_limit(turn.answer, silent):
                taken = lock.take()
        except databases.errors() as error:
            raise EntrypointError(
                f"the database {name} was lost while another server was making it ready:"
                f" {databases.reason_of(error)}"
            ) from None
        if taken:
            return
        if not turn.left():
            raise EntrypointError(
                f"another server was still making the database ready after {turn.limit:g} s"
                f" ({_LOCK_WAIT})"
            )
        if not told:
            say("waiting: another server is making the database ready")
            told = True
        time.sleep(_PAUSE)


def _give_back(lock: Lock) -> None:
    """Release a lock, if the session that holds it is still there: it ends with that anyway."""
    try:
        lock.release()
    except databases.errors() as error:
        say(f"the lock in the database was lost early: {databases.reason_of(error)}")
