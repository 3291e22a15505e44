"""What MLflow's migrations say about a database, without importing MLflow."""

from __future__ import annotations

import re
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

_REVISION = re.compile(r"^revision\b[^=\n]*=\s*['\"](\w+)['\"]", re.MULTILINE)
_DOWN_REVISION = re.compile(r"^down_revision\b[^=\n]*=([^\n]*)", re.MULTILINE)
_QUOTED = re.compile(r"['\"](\w+)['\"]")


class Schema(NamedTuple):
    """The tables of one part of MLflow."""

    migrations: str
    """The folder of the migrations in the mlflow package."""
    version_table: str
    first_rows: tuple[str, ...]
    """Tables that have a row once MLflow has initialised the database."""
    data: tuple[str, ...]
    """Tables without any row in a database that holds nothing worth keeping."""
    upgrades_itself: bool
    """MLflow upgrades it at every start, without being asked."""


TRACKING = Schema(
    "store/db_migrations/versions",
    "alembic_version",
    first_rows=("experiments",),
    data=("experiments", "registered_models"),
    upgrades_itself=False,
)
REGISTRY = TRACKING._replace(first_rows=())
USERS = Schema(
    "server/auth/db/migrations/versions",
    "alembic_version_auth",
    first_rows=("users",),
    data=("users",),
    upgrades_itself=True,
)


class State(Enum):
    """How far a database is."""

    READY = "ready"
    UNFINISHED = "unfinished"
    """Empty, or left half way by a first start: nothing in it can be lost."""
    OLDER = "older"
    NEWER = "newer"


class Finding(NamedTuple):
    """What was found in a database."""

    state: State
    found: str
    """Its revision; empty where it has none."""
    expected: str
    """This MLflow's."""

    @property
    def needs_upgrade(self) -> bool:
        """Whether `mlflow db upgrade` has something to do that a start of the server doesn't do."""
        return self.state in (State.OLDER, State.UNFINISHED) and self.found not in (
            "",
            self.expected,
        )


def mlflow_folder() -> Path:
    """Where the mlflow package lies."""
    spec = find_spec("mlflow")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("mlflow is not installed")
    return Path(spec.origin).parent


def revisions(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """All revisions that a folder of migrations knows, and the newest of them."""
    known: set[str] = set()
    followed: set[str] = set()
    for path in folder.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if revision := _REVISION.search(text):
            known.add(revision[1])
            if before := _DOWN_REVISION.search(text):
                followed.update(_QUOTED.findall(before[1]))
    return frozenset(known), frozenset(known - followed)


def look(connection: Connection, schema: Schema) -> Finding:
    """Look how far the database is that `connection` leads to."""
    known, newest = revisions(mlflow_folder() / schema.migrations)
    found = frozenset(
        str(value) for value in _column(connection, "version_num", schema.version_table)
    )
    return Finding(
        _state(connection, schema, found, known, newest),
        " ".join(sorted(found)),
        " ".join(sorted(newest)),
    )


def _state(
    connection: Connection,
    schema: Schema,
    found: frozenset[str],
    known: frozenset[str],
    newest: frozenset[str],
) -> State:
    if found == newest:
        complete = all(_has_rows(connection, table) for table in schema.first_rows)
        return State.READY if complete else State.UNFINISHED
    if not found <= known:
        return State.NEWER
    if not found or not any(_has_rows(connection, table) for table in schema.data):
        return State.UNFINISHED
    return State.UNFINISHED if schema.upgrades_itself else State.OLDER


def _has_rows(connection: Connection, table: str) -> bool:
    return bool(_column(connection, "1", table, limit=1))


def _column(
    connection: Connection, column: str, table: str, *, limit: int | None = None
) -> list[object]:
    """One column of a table; nothing where there is no such table."""
    from sqlalchemy import inspect, literal_column, select
    from sqlalchemy import table as table_named

    if not inspect(connection).has_table(table):
        return []
    wanted: ColumnElement[object] = literal_column(column)
    query = select(wanted).select_from(table_named(table)).limit(limit)
    return list(connection.scalars(query))
