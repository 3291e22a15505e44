"""SQLite, in the server's volume."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seatrial.backends.base import DATA_PATH, Database
from seatrial.engine import container_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docker.models.containers import Container

_FILE = "mlflow.db"


class SQLite(Database):
    """A file of SQLite; each volume has one, so that its name is always the same."""

    def create(self, name: str) -> None:
        """Do nothing: MLflow makes the file."""

    def url(self, name: str) -> str:  # noqa: ARG002
        """The SQLAlchemy URL of the file."""
        return f"sqlite:///{DATA_PATH}/{_FILE}"

    def rows(
        self,
        name: str,  # noqa: ARG002
        query: str,
        parameters: Sequence[object],
        server: Container,
    ) -> list[tuple[Any, ...]]:
        """Ask a copy of the file, with its journal."""
        with tempfile.TemporaryDirectory() as folder:
            for member, content in container_files.files(server, DATA_PATH):
                if member.startswith(_FILE):
                    Path(folder, member).write_bytes(content)
            with sqlite3.connect(Path(folder, _FILE)) as database:
                return database.execute(query, parameters).fetchall()
