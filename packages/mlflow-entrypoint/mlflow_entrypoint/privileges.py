"""See that tables can be made, before MLflow begins to make them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_entrypoint.errors import EntrypointError

if TYPE_CHECKING:
    from sqlalchemy import Connection

_POSTGRESQL = """
SELECT current_user, current_schema(), has_schema_privilege(current_schema(), 'CREATE'),
    pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'
"""


def check(connection: Connection, name: str) -> None:
    """See that the user may make tables, in PostgreSQL: by default its owner alone may.

    Args:
        connection: to the database.
        name: of the database, for messages.

    Raises:
        EntrypointError: the user may not.
    """
    if connection.dialect.name != "postgresql":
        return
    from sqlalchemy import text

    user, schema, may, read_only = connection.execute(text(_POSTGRESQL)).one()
    if read_only:
        raise EntrypointError(
            f"the database {name} takes no changes, and has no tables of MLflow yet: give the"
            " server the primary one, in a mode that writes"
        )
    if schema is None:
        raise EntrypointError(
            f"the user {user} has no schema in the database {name} to make tables in: its"
            " search_path names none that is there"
        )
    if not may:
        raise EntrypointError(
            f"the user {user} may not make tables in the database {name}: as its owner, run"
            f' `GRANT CREATE ON SCHEMA "{schema}" TO "{user}"`'
        )
