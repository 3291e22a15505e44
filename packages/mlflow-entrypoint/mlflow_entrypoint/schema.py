"""State of a database by MLflow's migrations, without importing MLflow."""

from __future__ import annotations

import re
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement, Connection

_REVISION = re.compile(r"^revision\b[^=\n]*=\s*['\"](\w+)['\"]", re.MULTILINE)
_DOWN_REVISION = re.compile(r"^down_revision\b[^=\n]*=([^\n]*)", re.MULTILINE)
_QUOTED = re.compile(r"['\"](\w+)['\"]")


class Schema(NamedTuple):
    """The tables of one part of MLflow."""

    contents: str
    """Purpose, in messages."""
    migrations: str
    """The folder of the migrations in the mlflow package."""
    version_table: str
    first_rows: tuple[str, ...]
    """Tables that have a row once MLflow has initialised the database."""
    data: tuple[str, ...]
    """Tables without any row in a database that holds nothing worth keeping."""
    marks: Mapping[str, frozenset[str]]
    """First tables, and the columns by which they are MLflow's and not another program's."""
    upgrades_itself: bool
    """MLflow upgrades it at every start, without being asked."""


_OF_A_RUN = frozenset({"run_uuid"})
_DEFAULT_VERSION_TABLE = "alembic_version"
"""Alembic's own name for it, which most programs leave as it is."""
TRACKING = Schema(
    "runs and models",
    "store/db_migrations/versions",
    _DEFAULT_VERSION_TABLE,
    first_rows=("experiments",),
    data=("experiments", "registered_models"),
    marks={
        "experiments": frozenset({"experiment_id", "artifact_location"}),
        **dict.fromkeys(("runs", "metrics", "params", "tags"), _OF_A_RUN),
    },
    upgrades_itself=False,
)
REGISTRY = TRACKING._replace(first_rows=())
USERS = Schema(
    "users",
    "server/auth/db/migrations/versions",
    "alembic_version_auth",
    first_rows=("users",),
    data=("users",),
    marks={
        "users": frozenset({"username", "password_hash", "is_admin"}),
        **dict.fromkeys(
            ("experiment_permissions", "registered_model_permissions"), frozenset({"user_id"})
        ),
    },
    upgrades_itself=True,
)


class State(Enum):
    """Progress of a database."""

    READY = "ready"
    UNFINISHED = "unfinished"
    """Empty, or left half way by a first start: nothing in it can be lost."""
    OUTDATED = "outdated"
    """Written by an older MLflow; this one's start upgrades it."""
    OLDER = "older"
    """Written by an older MLflow; `mlflow db upgrade` alone upgrades it."""
    NEWER = "newer"
    FOREIGN = "foreign"
    """Not what the server takes it for: nothing may be written to it."""


class DatabaseFinding(NamedTuple):
    """State and revisions of a database."""

    state: State
    found: str
    """Revision of the database; empty where it has none."""
    expected: str
    """Revision that this MLflow has."""
    schema: Schema
    holds: str = ""
    """Contents of a foreign one."""

    @property
    def needs_upgrade(self) -> bool:
        """Tell if `mlflow db upgrade` has something to do that a start of the server doesn't do."""
        begun = self.state is State.UNFINISHED and self.found not in ("", self.expected)
        return not self.schema.upgrades_itself and (self.state is State.OLDER or begun)


def mlflow_folder() -> Path:
    """Find the folder of the mlflow package."""
    spec = find_spec("mlflow")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("mlflow is not installed")
    return Path(spec.origin).parent


def revisions(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """List all revisions that a folder of migrations knows, and the newest of them."""
    known: set[str] = set()
    followed: set[str] = set()
    for path in folder.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if revision := _REVISION.search(text):
            known.add(revision[1])
            if before := _DOWN_REVISION.search(text):
                followed.update(_QUOTED.findall(before[1]))
    return frozenset(known), frozenset(known - followed)


def look(connection: Connection, schema: Schema) -> DatabaseFinding:
    """Look what the database is that `connection` leads to, and how far it is."""
    known, newest = revisions(mlflow_folder() / schema.migrations)
    found = _found(connection, schema.version_table)
    tables = _Tables.of(connection, schema)
    holds = ""
    if schema.version_table == _DEFAULT_VERSION_TABLE:
        if found and found <= revisions(mlflow_folder() / USERS.migrations)[0]:
            holds = "the users of an older MLflow (--app-name basic-auth)"
    elif not found and tables.own:
        # Releases before 3.6 kept the users' revision where other programs keep theirs.
        found = _found(connection, _DEFAULT_VERSION_TABLE) & known
    if not holds and tables.others:
        holds = f"another program's table {sorted(tables.others)[0]}"
    if not holds and not found <= known and not tables.own:
        holds = f"another program's tables, of the revision {' '.join(sorted(found))}"
    state = State.FOREIGN if holds else _state(connection, schema, found, known, newest)
    return DatabaseFinding(state, " ".join(sorted(found)), " ".join(sorted(newest)), schema, holds)


class _Tables(NamedTuple):
    """Tables that are called like the first ones of a schema."""

    own: frozenset[str]
    """MLflow's."""
    others: frozenset[str]

    @classmethod
    def of(cls, connection: Connection, schema: Schema) -> _Tables:
        """Tell MLflow's tables from others that are called the same, by their columns."""
        from sqlalchemy import inspect

        inspector = inspect(connection)
        columns = {
            name: {str(column["name"]).lower() for column in inspector.get_columns(name)}
            for name in schema.marks
            if inspector.has_table(name)
        }
        own = frozenset(name for name, those in columns.items() if schema.marks[name] <= those)
        return cls(own, frozenset(columns) - own)


def _found(connection: Connection, version_table: str) -> frozenset[str]:
    return frozenset(str(value) for value in _column(connection, "version_num", version_table))


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
    if not any(_has_rows(connection, table) for table in schema.data):
        return State.UNFINISHED
    return State.OUTDATED if schema.upgrades_itself else State.OLDER


def _has_rows(connection: Connection, table: str) -> bool:
    return bool(_column(connection, "1", table, limit=1))


def _column(
    connection: Connection, column: str, table: str, *, limit: int | None = None
) -> list[object]:
    """Read one column of a table; nothing where there is no such table."""
    from sqlalchemy import inspect, literal_column, select
    from sqlalchemy import table as table_named

    if not inspect(connection).has_table(table):
        return []
    wanted: ColumnElement[object] = literal_column(column)
    query = select(wanted).select_from(table_named(table)).limit(limit)
    return list(connection.scalars(query))
