"""The entry point: a user who may make no tables is told so, before MLflow begins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy
from mlflow_entrypoint import privileges
from mlflow_entrypoint.errors import EntrypointError


class _PostgreSQL:
    """A connection to a PostgreSQL that answers one question: user, schema, may, read-only."""

    dialect = SimpleNamespace(name="postgresql")

    def __init__(self, answer: tuple[str, str | None, bool | None, bool]) -> None:
        self._answer = answer

    def execute(self, _: object) -> Any:
        return SimpleNamespace(one=lambda: self._answer)


def _check(answer: tuple[str, str | None, bool | None, bool]) -> None:
    privileges.check(cast("sqlalchemy.Connection", _PostgreSQL(answer)), "tracked")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (("ida", "public", True, True), "the database tracked takes no changes"),
        (("ida", None, None, False), "the user ida has no schema in the database tracked"),
        (("ida", "own", False, False), 'GRANT CREATE ON SCHEMA "own" TO "ida"'),
    ],
)
def test_user_who_may_make_no_tables(
    answer: tuple[str, str | None, bool | None, bool], message: str
) -> None:
    with pytest.raises(EntrypointError) as failure:
        _check(answer)
    assert message in str(failure.value)


def test_user_who_may_make_tables() -> None:
    _check(("ida", "public", True, False))


def test_other_databases_are_not_asked() -> None:
    """SQLite has no users, and would not understand the question."""
    with sqlalchemy.create_engine("sqlite://").connect() as connection:
        privileges.check(connection, "tracked")
