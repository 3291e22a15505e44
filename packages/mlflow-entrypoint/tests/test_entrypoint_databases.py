"""The entry point: databases that are waited for, looked at, and locked."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import sqlalchemy
from anyio.pytest_plugin import FreePortFactory
from mlflow.store.db.utils import _get_latest_schema_revision
from mlflow_entrypoint import databases, readiness, schema, server
from mlflow_entrypoint.databases import Database
from mlflow_entrypoint.errors import EntrypointError
from mlflow_entrypoint.locks import lock_of
from mlflow_entrypoint.schema import REGISTRY, TRACKING, USERS, State
from older_databases import (
    RUNS_OF_2_22,
    USERS_OF_2_0,
    USERS_OF_3_10,
    make_runs,
    make_users,
    tables,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection

free_port = FreePortFactory(socket.SOCK_STREAM)
OLDER = "0584bdc529eb"


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file that MLflow itself has initialised, with its default experiment."""
    path = tmp_path_factory.mktemp("initialised") / "mlflow.db"
    subprocess.run(
        [sys.executable, "-m", "mlflow", "experiments", "search"],
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{path}"},
        check=True,
        capture_output=True,
    )
    return path


@pytest.fixture
def url(initialised: Path, tmp_path: Path) -> str:
    """A copy of it."""
    copy = tmp_path / "copy.db"
    copy.write_bytes(initialised.read_bytes())
    return f"sqlite:///{copy}"


def _execute(url: str, statement: str) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database, database:
        database.execute(statement)


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    with databases.connect(Database(url, (TRACKING,)), {}, time.monotonic() + 5, 5) as found:
        yield found


def test_newest_revision_is_mlflows() -> None:
    known, newest = schema.revisions(schema.mlflow_folder() / TRACKING.migrations)
    assert newest == {_get_latest_schema_revision()}  # type: ignore[no-untyped-call]
    assert OLDER in known
    _, of_users = schema.revisions(schema.mlflow_folder() / USERS.migrations)
    assert len(of_users) == 1


def test_ready(connection: Connection) -> None:
    for part in (TRACKING, REGISTRY):
        assert schema.look(connection, part).state is State.READY


def test_users_are_not_there_yet(connection: Connection) -> None:
    found = schema.look(connection, USERS)
    assert (found.state, found.found, found.needs_upgrade) == (State.UNFINISHED, "", False)


@pytest.mark.parametrize(
    ("statement", "state", "needs_upgrade"),
    [
        ("DELETE FROM experiments", State.UNFINISHED, False),
        (f"UPDATE alembic_version SET version_num = '{OLDER}'", State.OLDER, True),
        ("UPDATE alembic_version SET version_num = 'ffffffffffff'", State.NEWER, False),
        ("DROP TABLE alembic_version", State.OLDER, True),
        ("DELETE FROM alembic_version", State.OLDER, True),
    ],
)
def test_states(url: str, statement: str, state: State, needs_upgrade: bool) -> None:
    _execute(url, statement)
    with databases.connect(Database(url, ()), {}, time.monotonic() + 5, 5) as connection:
        found = schema.look(connection, TRACKING)
    assert (found.state, found.needs_upgrade) == (state, needs_upgrade)


def test_first_start_that_was_interrupted(url: str) -> None:
    """SQLite and MySQL keep what a migration did before it was killed; nothing is in it yet."""
    _execute(url, "DELETE FROM experiments")
    _execute(url, f"UPDATE alembic_version SET version_num = '{OLDER}'")
    with databases.connect(Database(url, ()), {}, time.monotonic() + 5, 5) as connection:
        found = schema.look(connection, TRACKING)
    assert (found.state, found.needs_upgrade) == (State.UNFINISHED, True)


def _server(url: str, **more: object) -> server.Server:
    fields: dict[str, object] = {
        "arguments": [],
        "backend": url,
        "read_replica": None,
        "registry": None,
        "authenticates": False,
        "backend_variable": None,
    }
    return server.Server(**{**fields, **more})  # type: ignore[arg-type]


def _no_upgrade(url: str) -> None:
    pytest.fail(f"{url} was upgraded")


def test_nothing_is_held_where_all_is_ready(url: str) -> None:
    assert readiness.prepare(_server(url), {}, _no_upgrade) is None


def test_older_schema_says_what_to_run(url: str) -> None:
    _execute(url, f"UPDATE alembic_version SET version_num = '{OLDER}'")
    with pytest.raises(
        EntrypointError, match=r"db upgrade 'sqlite:///.*MLFLOW_SCHEMA_UPGRADE=true"
    ):
        readiness.prepare(_server(url), {}, _no_upgrade)
    named = _server(url, backend_variable="BACKEND_STORE_URI")
    with pytest.raises(EntrypointError, match=r"db upgrade '\$\{BACKEND_STORE_URI\}'"):
        readiness.prepare(named, {}, _no_upgrade)


def test_newer_schema_is_refused_even_if_upgrades_are_wanted(url: str) -> None:
    _execute(url, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(EntrypointError, match="schema ffffffffffff of a newer MLflow"):
        readiness.prepare(_server(url), {"MLFLOW_SCHEMA_UPGRADE": "true"}, _no_upgrade)


def test_older_schema_is_upgraded_where_that_is_wanted(url: str) -> None:
    _execute(url, f"UPDATE alembic_version SET version_num = '{OLDER}'")
    upgraded: list[str] = []
    lock = readiness.prepare(_server(url), {"MLFLOW_SCHEMA_UPGRADE": "true"}, upgraded.append)
    assert upgraded == [url]
    assert lock is not None
    lock.close()


def test_one_at_a_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/mlflow.db"
    lock = readiness.prepare(_server(url), {}, _no_upgrade)
    assert lock is not None
    with pytest.raises(EntrypointError, match=r"another server was still .* after 0.2 s"):
        readiness.prepare(_server(url), {"MLFLOW_SCHEMA_LOCK_WAIT": "0.2"}, _no_upgrade)
    lock.close()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mlflow.db"]
    again = readiness.prepare(_server(url), {}, _no_upgrade)
    assert again is not None
    again.close()


def test_lock_ends_with_its_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mlflow.db"
    program = (
        "import os, sqlalchemy, time; from mlflow_entrypoint.locks import lock_of;"
        f"c = sqlalchemy.create_engine('{url}').connect(); assert lock_of(c).take();"
        "print('held', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with sqlalchemy.create_engine(url).connect() as connection:
            lock = lock_of(connection)
            assert not lock.take()
            holder.kill()
            holder.wait()
            assert lock.take()
            lock.release()


TAKE_TURNS = """
import os, pathlib, sys, time, sqlalchemy
from mlflow_entrypoint.locks import lock_of
url, inside = sys.argv[1:]
with sqlalchemy.create_engine(url).connect() as connection:
    for _ in range(300):
        lock = lock_of(connection)
        while not lock.take():
            time.sleep(0)
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
        time.sleep(0)
        os.unlink(inside)
        lock.release()
"""
"""Does something under the lock that fails if another process does it as well."""


def test_lock_of_sqlite_is_held_by_one_alone(tmp_path: Path) -> None:
    """Though each one that releases it removes its file, and others wait with that file open."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "inside")]
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE_TURNS, *words], env=environment, stderr=subprocess.PIPE
        )
        for _ in range(5)
    ]
    said = [taker.communicate(timeout=120)[1].decode() for taker in takers]
    assert [taker.returncode for taker in takers] == [0] * 5, said
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_lock_file_of_another_is_left_alone(tmp_path: Path) -> None:
    """Somebody removed the file of a server that holds it; the next one has made another."""
    with sqlalchemy.create_engine(f"sqlite:///{tmp_path}/mlflow.db").connect() as connection:
        first, second, third = (lock_of(connection) for _ in range(3))
        assert first.take()
        (tmp_path / "mlflow.db.init-lock").unlink()
        assert second.take()
        first.release()
        assert not third.take()
        second.release()
        assert third.take()
        third.release()


def test_lock_of_a_linked_file_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "mlflow.db")
    locks = []
    for name in ("mlflow.db", "link.db"):
        with sqlalchemy.create_engine(f"sqlite:///{tmp_path}/{name}").connect() as connection:
            locks.append(lock_of(connection))
    assert locks[0].take()
    assert not locks[1].take()
    locks[0].release()


def test_database_that_another_process_writes_to(url: str) -> None:
    """It is waited for as long as for the lock: another server may be initialising it."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
        database.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        with pytest.raises(EntrypointError, match=r"could not be read within 0\.2 s"):
            readiness.prepare(
                _server(f"{url}?timeout=0.1"), {"MLFLOW_SCHEMA_LOCK_WAIT": "0.2"}, _no_upgrade
            )
        assert time.monotonic() - started >= 0.2


class _Lost:
    """A lock in a database that goes away."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def take(self) -> bool:
        raise self.error

    release = take


@pytest.mark.parametrize(
    "error",
    [
        sqlalchemy.exc.OperationalError("x", {}, Exception("server closed the connection")),
        sqlalchemy.exc.InterfaceError("x", {}, Exception("connection already closed")),
        sqlalchemy.exc.PendingRollbackError("Can't reconnect"),
        ConnectionResetError(104, "Connection reset by peer"),
        ValueError("I/O operation on closed file"),
    ],
)
def test_database_that_is_lost_while_its_lock_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(readiness, "lock_of", lambda _: _Lost(error))
    with pytest.raises(EntrypointError, match=r"mlflow\.db was lost while another server") as end:
        readiness.prepare(_server(f"sqlite:///{tmp_path}/mlflow.db"), {}, _no_upgrade)
    assert "\n" not in str(end.value)


def test_lock_that_is_lost_hides_no_other_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = _Lost(ConnectionResetError(104, "Connection reset by peer"))
    monkeypatch.setattr(lost, "take", lambda: True)
    monkeypatch.setattr(readiness, "lock_of", lambda _: lost)
    fits = iter([False])
    monkeypatch.setattr(readiness, "_fit", lambda *_, **__: next(fits))
    with pytest.raises(StopIteration):
        readiness.prepare(_server(f"sqlite:///{tmp_path}/mlflow.db"), {}, _no_upgrade)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[mlflow]\ndatabase_uri = mysql://u:p%40s3cret@db/x\n", "write % as %%"),
        ("mysql://u:s3cret@db/x\n", "at line 1"),
        ("[mlflow\n", "at line 1"),
        ("[other]\n", "NoSectionError"),
    ],
)
def test_settings_of_users_that_can_not_be_read(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "auth.ini").write_text(text)
    environment = {"MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini")}
    with pytest.raises(EntrypointError, match=reason) as failure:
        databases.of(_server("mysql://db/x", authenticates=True), environment)
    assert "s3cret" not in str(failure.value)


def test_databases_of_a_server(tmp_path: Path) -> None:
    config = tmp_path / "auth.ini"
    config.write_text("[mlflow]\ndatabase_uri = postgresql://db/users\n")
    found = databases.of(
        _server(
            "postgresql://db/tracking",
            registry="mysql+pymysql://db/registry",
            read_replica="postgresql://replica/tracking",
            authenticates=True,
            workspaces="postgresql://db/workspaces",
        ),
        {"MLFLOW_AUTH_CONFIG_PATH": str(config)},
    )
    assert found == [
        ("postgresql://db/tracking", (TRACKING,)),
        ("mysql+pymysql://db/registry", (REGISTRY,)),
        ("postgresql://replica/tracking", ()),
        ("postgresql://db/workspaces", ()),
        ("postgresql://db/users", (USERS,)),
    ]


def test_users_beside_the_rest(tmp_path: Path) -> None:
    config = tmp_path / "auth.ini"
    config.write_text("[mlflow]\ndatabase_uri = postgresql://db/all\n")
    wanted = _server("postgresql://db/all", authenticates=True)
    environment = {"MLFLOW_AUTH_CONFIG_PATH": str(config)}
    assert databases.of(wanted, environment) == [("postgresql://db/all", (TRACKING, USERS))]
    shipped = databases.of(wanted, {})
    assert shipped[1] == ("sqlite:///basic_auth.db", (USERS,))


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:memory?mode=memory&uri=true",
        "./mlruns",
        "file:///mlruns",
        "plugin://x",
        None,
    ],
)
def test_what_is_no_database(url: str | None) -> None:
    assert databases.of(_server("x", backend=url), {}) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgres://u:s3cret@db/x", "spelled postgresql"),
        ("postgresql+nothing://u:s3cret@db/x", "scheme that this image"),
        ("mssql+pyodbc://u:s3cret@db/x", "needs the driver pyodbc"),
        ("postgresql://u:s3cret@db:port/x", "is no URL of a database"),
        ("sqlite:////proc/nowhere/mlflow.db", "folder /proc/nowhere .* can't be made"),
        ("sqlite:////proc/mlflow.db", "can't be used: unable to open database file"),
    ],
)
def test_what_waiting_can_not_mend(url: str, message: str) -> None:
    started = time.monotonic()
    with pytest.raises(EntrypointError, match=message) as failure:
        databases.connect(Database(url, ()), {}, started + 30, 30)
    assert time.monotonic() - started < 5
    assert "s3cret" not in str(failure.value)
    assert "\n" not in str(failure.value)


def test_no_sqlite_file(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("This is no database.\n" * 50)
    with pytest.raises(EntrypointError, match=r"text\.db can't be read: file is not a database"):
        readiness.prepare(_server(f"sqlite:///{tmp_path}/text.db"), {}, _no_upgrade)


def test_wait_ends(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    url = f"postgresql+psycopg://u:s3cret@127.0.0.1:{port}/x"
    with pytest.raises(
        EntrypointError, match=rf"u:\*\*\*@127.0.0.1:{port}/x did not answer"
    ) as end:
        databases.connect(Database(url, ()), {}, time.monotonic() + 1, 1)
    assert "within 1 s" in str(end.value)
    assert "refused" in str(end.value)
    said = capsys.readouterr().err
    assert said.count("waiting up to 1 s") == 1
    assert "s3cret" not in said + str(end.value)


APART = "alembic_version"
"""Where releases before 3.6 kept the revision of users."""


@pytest.fixture
def users_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/users.db"


@pytest.fixture
def with_users(tmp_path: Path, users_url: str) -> dict[str, str]:
    """The variables of a server whose users are there."""
    config = tmp_path / "auth.ini"
    config.write_text(f"[mlflow]\ndatabase_uri = {users_url}\nadmin_username = captain\n")
    return {"MLFLOW_AUTH_CONFIG_PATH": str(config)}


@pytest.mark.parametrize(
    ("revision", "version_table"),
    [
        (USERS_OF_2_0, APART),
        (USERS_OF_2_0, USERS.version_table),
        (USERS_OF_3_10, USERS.version_table),
    ],
    ids=["2.0", "3.6", "3.10"],
)
def test_older_users_are_left_to_mlflows_start(
    url: str,
    users_url: str,
    with_users: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    revision: str,
    version_table: str,
) -> None:
    """The lock is held meanwhile, and nothing of what a server tracks gets into their database."""
    make_users(users_url, revision, version_table)
    before = tables(users_url)
    wanted = _server(url, authenticates=True)
    for more in ({}, {"MLFLOW_SCHEMA_UPGRADE": "true"}):
        lock = readiness.prepare(wanted, with_users | more, _no_upgrade)
        assert lock is not None
        lock.close()
    assert f"upgrades the schema of its users in {users_url} from {revision}" in (
        capsys.readouterr().err
    )
    assert tables(users_url) == before


def test_users_whose_first_start_was_interrupted(
    url: str, users_url: str, with_users: dict[str, str]
) -> None:
    make_users(users_url)
    _execute(users_url, "DELETE FROM users")
    variables = with_users | {"MLFLOW_AUTH_ADMIN_PASSWORD": "a-long-password"}
    lock = readiness.prepare(_server(url, authenticates=True), variables, _no_upgrade)
    assert lock is not None
    lock.close()


def test_older_users_beside_older_runs(users_url: str, with_users: dict[str, str]) -> None:
    """In one database: the upgrade is asked for once, of what the server tracks."""
    make_runs(users_url)
    make_users(users_url)
    wanted = _server(users_url, authenticates=True)
    with pytest.raises(EntrypointError, match=rf"has the schema {RUNS_OF_2_22} of an older"):
        readiness.prepare(wanted, with_users, _no_upgrade)
    upgraded: list[str] = []
    asked = {"MLFLOW_SCHEMA_UPGRADE": "true"}
    lock = readiness.prepare(wanted, with_users | asked, upgraded.append)
    assert lock is not None
    lock.close()
    assert upgraded == [users_url]


def test_older_runs_apart(users_url: str) -> None:
    make_runs(users_url)
    with databases.connect(Database(users_url, ()), {}, time.monotonic() + 5, 5) as connection:
        assert schema.look(connection, TRACKING).state is State.OLDER
        assert schema.look(connection, USERS).state is State.UNFINISHED


@pytest.mark.parametrize("asked", ["false", "true"])
def test_users_are_no_runs(users_url: str, asked: str) -> None:
    """MLflow's migrations of runs would leave tables in it, and fail."""
    make_users(users_url, version_table=APART)
    before = tables(users_url)
    with pytest.raises(EntrypointError, match=r"users\.db holds the users of an older MLflow"):
        readiness.prepare(_server(users_url), {"MLFLOW_SCHEMA_UPGRADE": asked}, _no_upgrade)
    assert tables(users_url) == before


FOREIGN = {
    "a-revision": [
        "CREATE TABLE alembic_version (version_num VARCHAR(32))",
        "INSERT INTO alembic_version VALUES ('13eb55f81627')",
        "CREATE TABLE dag (id INT)",
    ],
    "runs": ["CREATE TABLE runs (id INT, started_at TEXT)"],
    "users": ["CREATE TABLE users (id INT, email TEXT)"],
}
"""What other programs keep in a database: Airflow's revision, and names that MLflow has too."""


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("a-revision", "another program's tables, of the revision 13eb55f81627, and nothing was"),
        ("runs", "another program's table runs, .* server's runs and models a database"),
    ],
)
def test_database_of_another_program(users_url: str, program: str, message: str) -> None:
    for statement in FOREIGN[program]:
        _execute(users_url, statement)
    before = tables(users_url)
    with pytest.raises(EntrypointError, match=message):
        readiness.prepare(_server(users_url), {"MLFLOW_SCHEMA_UPGRADE": "true"}, _no_upgrade)
    assert tables(users_url) == before


def test_users_of_another_program(url: str, users_url: str, with_users: dict[str, str]) -> None:
    """MLflow takes any table of that name for its own, and would stamp it."""
    for statement in FOREIGN["users"]:
        _execute(users_url, statement)
    before = tables(users_url)
    with pytest.raises(EntrypointError, match=r"program's table users, .* server's users a "):
        readiness.prepare(_server(url, authenticates=True), with_users, _no_upgrade)
    assert tables(users_url) == before


def test_database_beside_other_tables(users_url: str) -> None:
    """Somebody else's tables, whose names MLflow doesn't have, are no obstacle."""
    _execute(users_url, "CREATE TABLE orders (id INT)")
    lock = readiness.prepare(_server(users_url), {}, _no_upgrade)
    assert lock is not None
    lock.close()


@contextmanager
def _answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which every client is treated by `answer`, and hung up on."""

    def serve() -> None:
        while True:
            with suppress(OSError):
                client, _ = listener.accept()
                with client:
                    answer(client)
            if stopped.is_set():
                return

    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield port
        finally:
            stopped.set()
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                pass
            thread.join()


def _postgresql(state: str) -> Callable[[socket.socket], None]:
    """Refuse clients as PostgreSQL does, in a language that nobody has a list of words for."""

    def answer(client: socket.socket) -> None:
        client.settimeout(2)
        client.recv(8)  # asks for TLS
        client.sendall(b"N")
        client.recv(1024)
        if not state:
            return  # as a proxy does whose server is not up
        fields = f"SFATAL\0VFATAL\0C{state}\0Mno cxdir de loc\0".encode() + b"\0"
        client.sendall(b"E" + (len(fields) + 4).to_bytes(4) + fields)

    return answer


def _mysql(number: int) -> Callable[[socket.socket], None]:
    def answer(client: socket.socket) -> None:
        packet = b"\xff" + number.to_bytes(2, "little") + b"#HY000no cxdir de loc"
        client.sendall(len(packet).to_bytes(3, "little") + b"\0" + packet)

    return answer


@pytest.mark.parametrize(
    ("scheme", "answer", "final"),
    [
        ("postgresql+psycopg", _postgresql("28000"), True),
        ("postgresql+psycopg", _postgresql("28P01"), True),
        ("postgresql+psycopg", _postgresql("3D000"), True),
        ("postgresql+psycopg", _postgresql("42501"), True),
        ("postgresql+psycopg", _postgresql("57P03"), False),
        ("postgresql+psycopg", _postgresql("53300"), False),
        ("postgresql+psycopg", _postgresql(""), False),
        ("mysql+pymysql", _mysql(1045), True),
        ("mysql+pymysql", _mysql(3159), True),
        ("mysql+pymysql", _mysql(1040), False),
    ],
)
def test_refusals_are_known_by_their_code(
    scheme: str, answer: Callable[[socket.socket], None], final: bool
) -> None:
    """A missing client certificate is 28000, a server that starts 57P03, in all languages."""
    with _answering(answer) as port:
        url = f"{scheme}://u:s3cret@127.0.0.1:{port}/x"
        started = time.monotonic()
        end = "can't be used" if final else "did not answer within 1 s"
        with pytest.raises(EntrypointError, match=end) as failure:
            databases.connect(Database(url, ()), {}, started + 1, 1)
    assert "s3cret" not in str(failure.value)
    assert "\n" not in str(failure.value)


def test_parameters_that_no_server_gets_to_see() -> None:
    """Whoever listens is not asked: what is wrong is known before."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"postgresql+psycopg://u@127.0.0.1:{listener.getsockname()[1]}/x?sslmode=often"
        with pytest.raises(EntrypointError, match="can't be used"):
            databases.connect(Database(url, ()), {}, time.monotonic() + 30, 30)


def test_first_user_needs_a_password(url: str, with_users: dict[str, str]) -> None:
    wanted = _server(url, authenticates=True)
    with pytest.raises(EntrypointError, match="set MLFLOW_AUTH_ADMIN_PASSWORD"):
        readiness.prepare(wanted, with_users, _no_upgrade)
    variables = with_users | {"MLFLOW_AUTH_ADMIN_PASSWORD": "a-long-password"}
    lock = readiness.prepare(wanted, variables, _no_upgrade)
    assert lock is not None
    lock.close()
