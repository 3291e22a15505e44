"""Locks by which one server at a time makes a database ready.

Every lock belongs to a session or to an open file, so that it ends with its process at the latest.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mlflow_entrypoint.errors import EntrypointError

if TYPE_CHECKING:
    from sqlalchemy import Connection

_NAME = "mlflow-entrypoint"
_NUMBER = int.from_bytes(hashlib.sha256(_NAME.encode()).digest()[:8], signed=True)
"""The same in every server; PostgreSQL keeps the locks of its databases apart."""


class Lock(Protocol):
    """A lock that other containers see."""

    def take(self) -> bool:
        """Take it, if nobody else has it."""

    def release(self) -> None:
        """Give it back."""


class _SessionLock:
    def __init__(self, connection: Connection, take: str, release: str, key: int | str) -> None:
        self._connection = connection
        self._take = take
        self._release = release
        self._key = key

    def _ask(self, query: str) -> object:
        from sqlalchemy import text

        return self._connection.scalar(text(query), {"key": self._key})

    def take(self) -> bool:
        return bool(self._ask(self._take))

    def release(self) -> None:
        self._ask(self._release)


class _FileLock:
    """A locked file, which goes with the last server that needed it.

    Only who holds the lock of the file that lies at the path now may remove it. So whoever gets a
    lock looks whether its file is still there: the one who held it before may have removed it, and
    a third may have made and locked another.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def take(self) -> bool:
        while True:
            if self._file is None:
                self._file = self._open()
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if self._is_at_path(self._file):
                return True
            self._close()

    def release(self) -> None:
        """Remove the file as well: the database is ready now, whoever still waits for the lock."""
        if self._file is not None:
            if self._is_at_path(self._file):
                self._path.unlink()
            self._close()

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise EntrypointError(
                f"{self._path} can't be written by user {os.getuid()}: {error.strerror}"
            ) from None

    def _is_at_path(self, file: int) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(file))
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class _NoLock:
    def take(self) -> bool:
        return True

    def release(self) -> None:
        pass


def lock_of(connection: Connection) -> Lock:
    """The lock of the database that `connection` leads to; the connection has to stay open."""
    url = connection.engine.url
    match connection.dialect.name:
        case "postgresql":
            return _SessionLock(
                connection,
                "SELECT pg_try_advisory_lock(:key)",
                "SELECT pg_advisory_unlock(:key)",
                _NUMBER,
            )
        case "mysql" | "mariadb":
            # These locks are the whole server's, and their names have 64 characters at most.
            database = hashlib.sha256(str(url.database).encode()).hexdigest()[:32]
            return _SessionLock(
                connection,
                "SELECT GET_LOCK(:key, 0)",
                "SELECT RELEASE_LOCK(:key)",
                f"{_NAME}-{database}",
            )
        case "sqlite":
            # Containers may know the file by different links.
            return _FileLock(Path(f"{os.path.realpath(str(url.database))}.init-lock"))
        case _:
            return _NoLock()
