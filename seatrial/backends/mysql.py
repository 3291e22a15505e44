"""MySQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pymysql

from seatrial.backends.base import Database, accepting, described
from seatrial.engine.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docker.models.containers import Container
    from pymysql.connections import Connection
    from testcontainers.core.container import DockerContainer


class MySQL(Database):
    """A server of MySQL."""

    PORT = 3306
    USER = "root"
    """The one who may make databases."""

    @classmethod
    def container(cls, image: str, password: str) -> DockerContainer:
        """Describe the container of its service, which answers once it is started."""

        def connect(port: int) -> Connection:
            return _connect(port, password)

        return described(
            image,
            cls.PORT,
            {"MYSQL_DATABASE": "seatrial"},
            variable="MYSQL_ROOT_PASSWORD",
            password=password,
        ).waiting_for(accepting(cls.PORT, connect, pymysql.err.MySQLError))

    def create(self, name: str) -> None:
        """Make a new, empty database."""
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{name}`")

    def url(self, name: str) -> str:
        """The SQLAlchemy URL of a database, for containers on the network."""
        return f"mysql+pymysql://{self.USER}:{self.address.password}@mysql:{self.PORT}/{name}"

    def rows(
        self,
        name: str,
        query: str,
        parameters: Sequence[object],
        server: Container,  # noqa: ARG002
    ) -> list[tuple[Any, ...]]:
        """Ask a database from this host, past the server."""
        with self._connect(name) as connection, connection.cursor() as cursor:
            cursor.execute(query.replace("?", "%s"), parameters)
            return list(cursor.fetchall())

    def _connect(self, database: str | None = None) -> Connection:
        return _connect(self.address.port, self.address.password, database)


def _connect(port: int, password: str, database: str | None = None) -> Connection:
    return pymysql.connect(
        host=LOOPBACK,
        port=port,
        user=MySQL.USER,
        password=password,
        database=database,
        autocommit=True,
        connect_timeout=2,
    )
