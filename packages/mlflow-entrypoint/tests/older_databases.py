"""Databases as older releases of MLflow left them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy
from alembic import command
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
from mlflow_entrypoint.schema import USERS, mlflow_folder
from sqlalchemy import text
from werkzeug.security import generate_password_hash

if TYPE_CHECKING:
    from sqlalchemy import Engine

USERS_OF_2_0 = "8606fa83a998"
"""The revision of the users' tables in MLflow 2.0 to 3.6. Before 3.6 it stood in the table that
alembic takes where nobody names one."""
USERS_OF_3_10 = "2ed73881770d"
RUNS_OF_2_22 = "0584bdc529eb"
PASSWORD = "kept-from-an-older-release"


def make_runs(url: str, revision: str = RUNS_OF_2_22) -> None:
    """Make the tables of runs and models of a revision, with an experiment."""
    engine = sqlalchemy.create_engine(url)
    Base.metadata.create_all(engine)
    config = _get_alembic_config(url)  # type: ignore[no-untyped-call]
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.execute(
            text(
                "INSERT INTO experiments (name, artifact_location, lifecycle_stage)"
                " VALUES ('kept', './kept', 'active')"
            )
        )
    engine.dispose()


def make_users(
    url: str, revision: str = USERS_OF_2_0, version_table: str = USERS.version_table
) -> None:
    """Make the tables of users of a revision, with an administrator and a user.

    By MLflow's migrations alone: its own way to them needs the packages of `mlflow[auth]`.

    Args:
        url: of the database, which may hold other tables.
        revision: of the users' tables.
        version_table: `alembic_version` before MLflow 3.6.
    """
    script = ScriptDirectory(str((mlflow_folder() / USERS.migrations).parent))
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": version_table,
                "fn": lambda current, _: script._upgrade_revs(revision, current),
            },
        )
        with Operations.context(context):
            context.run_migrations()
        _add_users(connection)
    engine.dispose()


def _add_users(connection: sqlalchemy.Connection) -> None:
    hashed = generate_password_hash(PASSWORD)
    for number, name, is_admin in ((1, "captain", True), (2, "mate", False)):
        connection.execute(
            text(
                "INSERT INTO users (id, username, password_hash, is_admin)"
                " VALUES (:id, :name, :hashed, :is_admin)"
            ),
            {"id": number, "name": name, "hashed": hashed, "is_admin": is_admin},
        )
    connection.execute(
        text(
            "INSERT INTO experiment_permissions (experiment_id, user_id, permission)"
            " VALUES ('0', 2, 'MANAGE')"
        )
    )


def tables(url: str) -> set[str]:
    """The names of all tables."""
    engine: Engine = sqlalchemy.create_engine(url)
    try:
        return set(sqlalchemy.inspect(engine).get_table_names())
    finally:
        engine.dispose()
