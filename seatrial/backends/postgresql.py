"""PostgreSQL."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import psycopg
from psycopg import sql

from seatrial.backends.base import Database, accepting, described
from seatrial.engine.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docker.models.containers import Container
    from testcontainers.core.container import DockerContainer

_MAINTENANCE = "postgres"
"""The database that is there from the start."""


class PostgreSQL(Database):
    """A server of PostgreSQL."""

    PORT = 5432

    @classmethod
    def container(cls, image: str, password: str) -> DockerContainer:
        """Describe the container of its service, which answers once it is started."""
        environment = {"POSTGRES_USER": cls.USER, "POSTGRES_DB": cls.USER}

        def connect(port: int) -> psycopg.Connection:
            return _connect(port, cls.USER, password, cls.USER)

        return described(
            image, cls.PORT, environment, variable="POSTGRES_PASSWORD", password=password
        ).waiting_for(accepting(cls.PORT, connect, psycopg.Error))

    def connect(self, database: str = _MAINTENANCE) -> psycopg.Connection:
        """Connect to a database from this host, in autocommit mode."""
        return _connect(self.address.port, self.address.user, self.address.password, database)

    def create(self, name: str) -> None:
        """Make a new, empty database."""
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def create_role(self, database: str, password: str | None = None) -> str:
        """Make an account that owns `database` alone: its SQLAlchemy URL.

        For a command line, which everybody may see: the password is nobody else's.

        Args:
            database: an existing one.
            password: one of the caller's; the URL holds it encoded.
        """
        name, word = f"role-{secrets.token_hex(4)}", password or secrets.token_hex(16)
        role = sql.Identifier(name)
        with self.connect() as connection:
            create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(word))
            connection.execute(create)
            give = sql.SQL("ALTER DATABASE {} OWNER TO {}")
            connection.execute(give.format(sql.Identifier(database), role))
        return _url(name, quote(word, safe=""), database)

    def url(self, name: str) -> str:
        """The SQLAlchemy URL of a database, for containers on the network."""
        return _url(self.address.user, self.address.password, name)

    def rows(
        self,
        name: str,
        query: str,
        parameters: Sequence[object],
        server: Container,  # noqa: ARG002
    ) -> list[tuple[Any, ...]]:
        """Ask a database from this host, past the server."""
        with self.connect(name) as connection:
            return connection.execute(query.replace("?", "%s").encode(), parameters).fetchall()

    @classmethod
    def begin(cls, service: Container, statement: str) -> None:
        """Run a statement inside the service's container, and don't wait for its end."""
        service.exec_run(cls._psql("-c", statement), detach=True)

    @classmethod
    def ask(cls, service: Container, query: str) -> str:
        """Run a query inside the service's container: its rows, nothing while it can't answer."""
        code, output = service.exec_run(cls._psql("-Atc", query), stderr=False)
        return "" if code else cast("bytes", output).decode().strip()

    @classmethod
    def _psql(cls, *arguments: str) -> list[str]:
        return ["psql", "-U", cls.USER, "-d", cls.USER, *arguments]


def _url(user: str, password: str, database: str) -> str:
    return f"postgresql+psycopg2://{user}:{password}@postgres:{PostgreSQL.PORT}/{database}"


def _connect(port: int, user: str, password: str, database: str) -> psycopg.Connection:
    return psycopg.connect(
        host=LOOPBACK,
        port=port,
        user=user,
        password=password,
        dbname=database,
        autocommit=True,
        connect_timeout=2,
    )
