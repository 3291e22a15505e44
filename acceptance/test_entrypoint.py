"""The entry point: what it adds to MLflow's own program, and how it supervises the server."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

import mlflow
import pytest
from sqlalchemy import make_url

from seatrial.backends.minio import MinIO
from seatrial.backends.postgresql import PostgreSQL
from seatrial.engine.waiting import ContainerError, until
from seatrial.stack.run_container import run_in_container
from seatrial.stack.settings import FILES_PATH, ServerSettings

from .comparisons import assert_equal, assert_hidden
from .endings import KILL_SERVER, KILLED, START, WITHIN, assert_clear_end, wait_ended
from .orphans import assert_reaped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.server import MLflowServer, Stores
    from seatrial.stack.services import Services
    from seatrial.trial.fixtures import ClientFor, Launch, NewName, NewRun, RunInImage

    from .factories import NewStores
    from .private_postgresql import PrivatePostgreSQL

WAIT = 180
"""Seconds in which a server that waits for its database has given up, whatever its own limit is."""
NASTY = "@:/?#%&=+ '{}' \"`\\ $ äß漢字🔑"
"""A password with every character that has a meaning in URLs, in a shell or in a log."""
BLOCK = "BEGIN; CREATE TABLE experiments (x int); SELECT pg_sleep(3600)"
"""Holds the name of a table, so that a server that initialises the database hangs."""
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
"""Counts the sessions that wait for a lock of another session."""
SHOW_ARGUMENTS = """
import os
for name in os.listdir("/proc"):
    if name.isdigit():
        try:
            print(open(f"/proc/{name}/cmdline").read())
        except OSError:
            pass
"""
UNSET = "SEATRIAL_IS_NOT_SET"
WRONG = "wrong-passw0rd-of-seatrial"

FULL = ServerSettings("entrypoint", database="postgresql", store="s3", access="direct")
PLAIN = ServerSettings("entrypoint", database="sqlite", store="file", access="proxied")

MAKE_OLDER = """
import sys
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import create_engine
engine = create_engine(sys.argv[1])
Base.metadata.create_all(engine)
config = _get_alembic_config(sys.argv[1])
script = ScriptDirectory.from_config(config)
older = script.get_revision(script.get_current_head()).down_revision
with engine.begin() as connection:
    config.attributes["connection"] = connection
    command.upgrade(config, older)
print(older)
"""
"""Makes a database as MLflow made it before its newest migration."""
MAKE_OLDER_USERS = """
import importlib.util, pathlib, sys
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from werkzeug.security import generate_password_hash
url, revision, name, password = sys.argv[1:]
mlflow = pathlib.Path(importlib.util.find_spec("mlflow").origin).parent
script = ScriptDirectory(str(mlflow / "server" / "auth" / "db" / "migrations"))
options = {
    "version_table": "alembic_version_auth",
    "fn": lambda current, _: script._upgrade_revs(revision, current),
}
with create_engine(url).begin() as connection:
    context = MigrationContext.configure(connection, opts=options)
    with Operations.context(context):
        context.run_migrations()
    connection.execute(
        text("INSERT INTO users (username, password_hash, is_admin) VALUES (:name, :hash, true)"),
        {"name": name, "hash": generate_password_hash(password)},
    )
"""
"""Makes the tables of basic authentication as an older MLflow made them, with an administrator."""
USERS_OF_RELEASE = {"3.6": "8606fa83a998", "3.10": "2ed73881770d"}
"""Revisions of these tables. They are the ones that MLflow's servers of these releases write."""


def _with_command(settings: ServerSettings, *command: str, **variables: str) -> ServerSettings:
    """Replace the command of the settings, and add variables."""
    return replace(settings, command=command).with_environment(**variables)


def _tables(services: Services, stores: Stores) -> int:
    """Count the tables in the database of `stores`."""
    with services.of(PostgreSQL).connect(stores.database) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone()
    return int(found[0]) if found else 0


def _guide_command(backend: str, root: str, port: str) -> tuple[str, ...]:
    """Write the command that the guide prints, with these words in the place of its variables."""
    return (
        *("mlflow", "server", "--backend-store-uri", backend, "--default-artifact-root", root),
        *("--host", "0.0.0.0", "--port", port),
    )


@pytest.fixture
def stores(new_stores: NewStores) -> Stores:
    """A fresh database and a fresh bucket."""
    return new_stores(FULL)


@pytest.fixture
def account(services: Services, stores: Stores) -> str:
    """The URL of `stores` with an account of its own: everybody may see a command line."""
    return services.of(PostgreSQL).create_role(stores.database)


@pytest.fixture
def variables(image: ImageUnderTest, services: Services, stores: Stores) -> dict[str, str]:
    """The variables of the guide, for a server on `stores`."""
    return {
        "MLFLOW_SERVER_HOST": "0.0.0.0",
        "MLFLOW_SERVER_PORT": str(image.contract.start.port),
        "BACKEND_STORE_URI": services.of(PostgreSQL).url(stores.database),
        "ARTIFACT_ROOT": f"s3://{stores.bucket}",
    }


class LaunchOnStores(Protocol):
    """Start a server on `stores`; it is removed when the test ends."""

    def __call__(
        self,
        *command: str,
        variables: Mapping[str, str] | None = None,
        proxied: bool = False,
        wait: bool = True,
    ) -> MLflowServer:
        """Start the image with this command and these variables.

        Args:
            command: in place of what the trial would tell the image's entry point.
            variables: beside those that every server of the trial gets.
            proxied: the client gets its artifacts through the server.
            wait: for the server's health.
        """


@pytest.fixture
def launch_on_stores(launch: Launch, stores: Stores) -> LaunchOnStores:
    """Start servers on `stores`."""

    def start(
        *command: str,
        variables: Mapping[str, str] | None = None,
        proxied: bool = False,
        wait: bool = True,
    ) -> MLflowServer:
        settings = _with_command(FULL, *command, **(variables or {}))
        if proxied:
            settings = replace(settings, access="proxied")
        return launch(settings, stores=stores, wait=wait)

    return start


@pytest.fixture
def assert_uses_stores(
    services: Services, client_for: ClientFor, new_name: NewName
) -> Callable[[MLflowServer], None]:
    """Log a run, and require it in the server's database, and its artifact in the bucket."""

    def check(server: MLflowServer) -> None:
        client, name = client_for(server), new_name()
        run_id = client.create_run(client.create_experiment(name)).info.run_id
        client.log_text(run_id, name, "note.txt")
        assert_equal(
            "the text that the client reads of the artifact that it logged",
            mlflow.artifacts.load_text(f"runs:/{run_id}/note.txt"),
            name,
        )
        assert _tables(services, server.stores), (
            f"the server was told of the database {server.stores.database}, which has no tables:"
            " the client's run is kept elsewhere"
        )
        rows = server.rows("SELECT name FROM experiments WHERE name = ?", [name])
        assert rows == [(name,)], (
            f"the client created the experiment {name}, and the database that the server was told"
            f" of has {rows}"
        )
        objects = server.objects(containing=run_id)
        assert list(objects.values()) == [name.encode()], (
            f"the client logged one artifact, and the bucket that the server was told of has"
            f" {objects} of its run"
        )

    return check


@pytest.mark.promise("entrypoint.forms", "server")
def test_first_example_of_the_guide(
    image: ImageUnderTest, launch: Launch, client_for: ClientFor, new_run: NewRun
) -> None:
    port = str(image.contract.start.port)
    command = _guide_command("sqlite:///mlflow.db", "./mlruns", port)[1:]
    variables = {"MLFLOW_SERVER_HOST": "0.0.0.0", "MLFLOW_SERVER_PORT": port}
    client = client_for(launch(_with_command(PLAIN, *command, **variables)))
    run_id = new_run(client)

    client.log_metric(run_id, "loss", 0.5)

    assert_equal(
        "the set of metrics that the client reads of the run that it logged",
        client.get_run(run_id).data.metrics,
        {"loss": 0.5},
    )


@pytest.mark.promise("entrypoint.forms", "mlflow server")
def test_compose_file_of_the_guide(
    account: str,
    variables: dict[str, str],
    launch_on_stores: LaunchOnStores,
    assert_uses_stores: Callable[[MLflowServer], None],
) -> None:
    """The container gets the command from Compose, which takes the variables from `.env`."""
    root, port = variables["ARTIFACT_ROOT"], variables["MLFLOW_SERVER_PORT"]
    server = launch_on_stores(*_guide_command(account, root, port), variables=variables)
    assert_uses_stores(server)


@pytest.mark.promise("entrypoint.forms", "none")
def test_everything_from_the_environment(
    variables: dict[str, str],
    launch_on_stores: LaunchOnStores,
    assert_uses_stores: Callable[[MLflowServer], None],
) -> None:
    """A client that knows nothing of the bucket gets its artifacts there, through the server."""
    server = launch_on_stores(variables=variables, proxied=True)
    assert_uses_stores(server)


@pytest.mark.promise("entrypoint.expands_variables")
def test_names_of_variables_in_the_command(
    variables: dict[str, str],
    launch_on_stores: LaunchOnStores,
    assert_uses_stores: Callable[[MLflowServer], None],
) -> None:
    """Kubernetes, or a Compose file with `$$`, hands the guide's command over unexpanded."""
    command = _guide_command("${BACKEND_STORE_URI}", "${ARTIFACT_ROOT}", "${MLFLOW_SERVER_PORT}")
    server = launch_on_stores(*command, variables=variables)
    assert_uses_stores(server)


@pytest.mark.promise("entrypoint.expands_variables")
def test_values_that_vanished_on_the_way(
    variables: dict[str, str],
    launch_on_stores: LaunchOnStores,
    assert_uses_stores: Callable[[MLflowServer], None],
) -> None:
    """Compose expands the variables of the guide's file itself, to nothing where they are unset."""
    command = "mlflow server --backend-store-uri --default-artifact-root --host 0.0.0.0 --port"
    server = launch_on_stores(*command.split(), variables=variables)
    assert_uses_stores(server)


@pytest.mark.promise("entrypoint.expands_variables")
def test_variable_that_is_not_set(image: ImageUnderTest, launch: Launch) -> None:
    settings = _with_command(PLAIN, *image.server_command, "--port", f"${{{UNSET}}}")
    server = launch(settings, wait=False)
    assert_clear_end(server, f"the variable {UNSET} in the command is not set", UNSET)


@pytest.mark.promise("entrypoint.secret_files")
def test_secrets_in_files(
    image: ImageUnderTest,
    services: Services,
    new_stores: NewStores,
    launch: Launch,
    assert_uses_stores: Callable[[MLflowServer], None],
) -> None:
    """Each file ends with a line break, as editors leave it."""
    # Settings that name S3 would give the server the keys as variables: name files, and tell the
    # server of the bucket by its command.
    plain = replace(PLAIN, name="secret-files", database="postgresql")
    stores = new_stores(plain)
    services.of(MinIO).create(stores.bucket)
    given = services.of(MinIO).server_environment()
    secrets = {
        "MLFLOW_BACKEND_STORE_URI": services.of(PostgreSQL).url(stores.database),
        **{name: given.pop(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
    }
    by_file = {f"{name}_FILE": f"{FILES_PATH}/{name.lower()}" for name in secrets}
    command = (
        *(*image.server_command, "--host", "0.0.0.0"),
        *("--port", str(image.contract.start.port)),
        *("--artifacts-destination", f"s3://{stores.bucket}"),
    )
    settings = replace(
        _with_command(plain, *command, **given, **by_file),
        files=tuple((name.lower(), f"{value}\n") for name, value in secrets.items()),
    )
    server = launch(settings, stores=stores)
    assert_uses_stores(replace(server, settings=replace(settings, store="s3")))


@pytest.mark.promise("entrypoint.secret_files")
def test_secret_file_that_is_missing(image: ImageUnderTest, launch: Launch) -> None:
    path = f"{FILES_PATH}/nowhere"
    variable = "MLFLOW_BACKEND_STORE_URI_FILE"
    settings = _with_command(PLAIN, *image.server_command, **{variable: path})
    server = launch(settings, wait=False)
    assert_clear_end(server, f"{variable} names a file that isn't there", variable, path)


@pytest.mark.promise("entrypoint.secret_files")
@pytest.mark.parametrize(
    "path",
    ["/dev/zero", "/", f"{FILES_PATH}/long", f"{FILES_PATH}/zero", f"{FILES_PATH}/empty"],
    ids=["endless", "folder", "too-long", "with-a-zero-byte", "empty"],
)
def test_secret_file_that_holds_none(image: ImageUnderTest, launch: Launch, path: str) -> None:
    variable = "MLFLOW_BACKEND_STORE_URI_FILE"
    settings = replace(
        _with_command(PLAIN, *image.server_command, **{variable: path}),
        files=(("long", "x" * 200_000), ("zero", "sqlite:///a\0b.db"), ("empty", "\n")),
    )
    server = launch(settings, wait=False)
    assert_clear_end(server, f"{variable} names what is no small text", variable, path)


def _assert_hidden_everywhere(server: MLflowServer, secret: str) -> None:
    """Require that no process list, health check or log of the container shows `secret`."""
    top = server.container.top(ps_args="-eo pid,args")
    listed = "\n".join(" ".join(line) for line in top["Processes"])
    assert_hidden("the engine's list of the container's processes", secret, listed)
    inside = run_in_container(
        server.container, server.image.contract.start.interpreter, "-c", SHOW_ARGUMENTS
    )
    assert inside.code == 0, f"the process table can't be read: {inside}"
    assert_hidden("the container's /proc/*/cmdline", secret, inside.output)
    server.container.reload()
    health = server.container.attrs["Config"].get("Healthcheck") or {"Test": []}
    if health["Test"][:1] == ["CMD"]:
        asked = run_in_container(server.container, *health["Test"][1:])
        assert_hidden("the health check's output", secret, asked.output)
    assert_hidden("the server's log", secret, server.logs(10_000))


@pytest.mark.promise("entrypoint.hides_secrets")
@pytest.mark.parametrize("spelling", ["plain", "encoded", "as-it-is"])
def test_password_of_a_running_server(
    image: ImageUnderTest,
    services: Services,
    stores: Stores,
    launch_on_stores: LaunchOnStores,
    assert_uses_stores: Callable[[MLflowServer], None],
    spelling: str,
) -> None:
    """The command holds the database's URL, with all that SQLAlchemy takes in a password."""
    secret = token_hex(8)
    password = secret if spelling == "plain" else NASTY.format(secret)
    url = services.of(PostgreSQL).create_role(stores.database, password)
    if spelling == "as-it-is":
        # SQLAlchemy ends a password at the first `@`, and decodes what stands behind a `%`.
        written = password.replace("%", "%25").replace("@", "%40")
        url = url.replace(quote(password, safe=""), written)
    command = (
        *(*image.server_command, "--host", "0.0.0.0", "--backend-store-uri", url),
        *("--port", str(image.contract.start.port), "--artifacts-destination"),
        f"s3://{stores.bucket}",
    )
    server = launch_on_stores(*command, proxied=True)

    assert_uses_stores(server)
    _assert_hidden_everywhere(server, secret)


@pytest.mark.promise("entrypoint.hides_secrets")
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg2://seatrial:{WRONG}@postgres:5432/postgres",
        f"nothing+such://seatrial:{WRONG}@postgres:5432/postgres",
        f"postgresql+psycopg2://seatrial@tenant:a '{WRONG}' \"b@postgres:5432/postgres",
        f"postgresql+psycopg2://seatrial:a@{WRONG}@postgres:5432/postgres",
        f"postgresql+psycopg2://seatrial:a/{WRONG}@postgres:port/postgres",
        f"postgresql+psycopg2://postgres:5432/postgres?user=seatrial&password={WRONG}",
        f"postgresql+psycopg2://seatrial@postgres/postgres?sslmode=x&sslpassword={WRONG}",
        f"mssql+pyodbc:///?odbc_connect=SERVER%3Dpostgres%3BUID%3Dsa%3BPWD%3D%7B{WRONG}%7D",
        f"'postgresql+psycopg2://seatrial:{WRONG}@postgres:5432/postgres'",
    ],
    ids=[
        *("wrong-password", "unknown-scheme", "quotes", "second-at-sign", "no-port", "query"),
        *("unknown-option", "odbc", "quoted-url"),
    ],
)
def test_password_of_a_server_that_fails(image: ImageUnderTest, launch: Launch, url: str) -> None:
    settings = _with_command(PLAIN, *image.server_command, "--backend-store-uri", url)
    server = launch(settings, wait=False)
    code = wait_ended(server, "its database can't be used", WAIT)
    assert code, "the database can't be used, and the container ended with 0, as if all were well"
    assert_hidden("the server's log, of the database's URL,", WRONG, server.logs(10_000))


class StartOn(Protocol):
    """Start a server on a database; it is removed when the test ends."""

    def __call__(self, url: str, **variables: str) -> MLflowServer:
        """Start the image on the database of a URL, with variables; it is not waited for."""


@pytest.fixture
def start_on(image: ImageUnderTest, launch: Launch) -> StartOn:
    """Start servers on databases that the trial does not share."""

    def start(url: str, **variables: str) -> MLflowServer:
        command = (
            *(*image.server_command, "--host", "0.0.0.0"),
            *("--port", str(image.contract.start.port), "--backend-store-uri", url),
        )
        return launch(_with_command(PLAIN, *command, **variables), wait=False)

    return start


class TestWaitsForDatabase:
    """Waits for a database that is starting; does not wait on a wrong password."""

    pytestmark = pytest.mark.promise("entrypoint.waits_for_database")

    def test_that_comes_up_later(
        self, start_on: StartOn, private_postgresql: PrivatePostgreSQL
    ) -> None:
        """The database's name is unknown at first, then connections are refused, then accepted."""
        server = start_on(private_postgresql.url())
        time.sleep(5 * server.image.scale)
        server.container.reload()
        assert server.container.status == "running", (
            f"the container did not wait for its database, but ended:\n{server.logs()}"
        )
        private_postgresql.start()
        server.wait_healthy()

    def test_that_stops_answering(
        self, start_on: StartOn, private_postgresql: PrivatePostgreSQL
    ) -> None:
        """The database's machine still accepts connections, which is no answer."""
        private_postgresql.start().kill(signal="SIGSTOP")
        server = start_on(private_postgresql.url(), MLFLOW_DATABASE_WAIT="3")
        name = private_postgresql.name
        assert_clear_end(server, "its database does not answer", name, limit=WAIT)

    @pytest.mark.parametrize("fault", ["holder-hangs", "database-dies"])
    def test_that_another_server_makes_ready(
        self, start_on: StartOn, private_postgresql: PrivatePostgreSQL, fault: str
    ) -> None:
        """A server hangs while it initialises the database, and the next server waits for it."""
        database, url = private_postgresql.start(), private_postgresql.url()
        PostgreSQL.begin(database, BLOCK)
        holder = start_on(url)
        until(
            lambda: PostgreSQL.ask(database, WAITING) not in ("", "0"),
            container=holder.container,
            action="begin to initialise its database",
            limit=holder.image.contract.start.ready_within * holder.image.scale,
        )
        limit = "5" if fault == "holder-hangs" else "600"
        server = start_on(url, MLFLOW_SCHEMA_LOCK_WAIT=limit)
        if fault == "database-dies":
            time.sleep(20 * server.image.scale)
            server.container.reload()
            assert server.container.status == "running", (
                f"the container did not wait for the one that initialises the database, but ended:"
                f"\n{server.logs()}"
            )
            database.kill()
        assert_clear_end(server, f"it waits for another server, and the {fault}", limit=WAIT)

    def test_that_never_comes(self, start_on: StartOn) -> None:
        """The log names the database; the limit is lowered where the image has the variable."""
        url = f"postgresql+psycopg2://somebody:{WRONG}@nobody-here:5432/missing"
        server = start_on(url, MLFLOW_DATABASE_WAIT="3")
        assert_clear_end(server, "its database never comes", "nobody-here", "missing", limit=WAIT)
        assert_hidden("the server's log", WRONG, server.logs(1000))

    @pytest.mark.parametrize(
        ("password", "database", "reason"),
        [
            (WRONG, "", "password authentication failed"),
            ("", "no_such_database", 'database "no_such_database" does not'),
        ],
        ids=["wrong-password", "unknown-database"],
    )
    def test_that_lets_nobody_in(
        self, account: str, start_on: StartOn, password: str, database: str, reason: str
    ) -> None:
        url = make_url(account)
        url = url.set(password=password or url.password, database=database or url.database)
        # The limit of the wait is far longer than the end may take.
        server = start_on(url.render_as_string(hide_password=False), MLFLOW_DATABASE_WAIT="600")
        assert_clear_end(server, "its database refuses it", reason, limit=START)


class TestFailsInOneLine:
    """A start that fails leaves one line in the log, and ends with exit code 1."""

    pytestmark = pytest.mark.promise("entrypoint.fails_in_one_line")

    @staticmethod
    def _assert_one_line(server: MLflowServer, cause: str, *named: str) -> None:
        code = wait_ended(server, cause, START)
        lines = server.logs(1000).splitlines()
        assert code == 1, f"{cause}, and the exit code is {code}"
        assert len(lines) == 1, f"{cause}, and the log has {len(lines)} lines"
        missing = [word for word in named if word not in lines[0]]
        assert not missing, f"{cause}, and the log doesn't name {missing}: {lines[0]}"

    @pytest.fixture
    def database(self, services: Services) -> str:
        """A new, empty database, which belongs to nobody but the administrator."""
        name = f"one-line-{token_hex(4)}"
        services.of(PostgreSQL).create(name)
        return name

    @pytest.mark.parametrize(
        ("around", "found"),
        [('"{}"', "quotes"), ("{} ", "a blank"), ("{}\r", "a line end")],
        ids=["quotes", "blank", "line-end"],
    )
    def test_value_with_something_around(
        self, image: ImageUnderTest, launch: Launch, around: str, found: str
    ) -> None:
        """Write a command as a file of variables for Docker keeps it."""
        url = around.format(f"postgresql://seatrial:{WRONG}@nobody-here/missing")
        settings = _with_command(PLAIN, *image.server_command, BACKEND_STORE_URI=url)
        server = launch(settings, wait=False)
        self._assert_one_line(server, f"its URL has {found} around", "BACKEND_STORE_URI", found)

    def test_authentication_that_is_not_set_up(self, launch: Launch) -> None:
        options = ("--app-name", "basic-auth")
        server = launch(replace(PLAIN, name="no-key", options=options), wait=False)
        cause = "basic-auth has no key"
        self._assert_one_line(server, cause, "MLFLOW_FLASK_SERVER_SECRET_KEY")

    def test_no_right_to_make_tables(
        self, services: Services, database: str, start_on: StartOn
    ) -> None:
        guest = make_url(services.of(PostgreSQL).create_role(database))
        with services.of(PostgreSQL).connect(database) as connection:
            connection.execute(f'ALTER DATABASE "{database}" OWNER TO CURRENT_USER'.encode())
        server = start_on(guest.render_as_string(hide_password=False))
        cause = "its user may not make tables"
        self._assert_one_line(server, cause, database, str(guest.username), "GRANT CREATE")

    def test_no_right_to_connect(
        self, services: Services, database: str, start_on: StartOn
    ) -> None:
        """No waiting mends that, however long it may take."""
        guest = make_url(services.of(PostgreSQL).create_role(database))
        with services.of(PostgreSQL).connect(database) as connection:
            for statement in (
                f'ALTER DATABASE "{database}" OWNER TO CURRENT_USER',
                f'REVOKE CONNECT ON DATABASE "{database}" FROM PUBLIC',
            ):
                connection.execute(statement.encode())
        url = guest.render_as_string(hide_password=False)
        server = start_on(url, MLFLOW_DATABASE_WAIT="600")
        self._assert_one_line(server, "its user may not connect", database, "permission denied")

    def test_initialisation_that_fails(
        self, services: Services, database: str, start_on: StartOn
    ) -> None:
        """A table that MLflow wants to make is there already."""
        with services.of(PostgreSQL).connect(database) as connection:
            connection.execute("CREATE TABLE registered_models (id int)")
        server = start_on(services.of(PostgreSQL).url(database))
        cause = "its database can't be initialised"
        self._assert_one_line(server, cause, "registered_models", "already exists")


@pytest.mark.promise("entrypoint.replicas")
def test_replicas_start_together_on_an_empty_database(
    promised_number: int, stores: Stores, launch: Launch
) -> None:
    settings = replace(FULL, name="replicas")
    servers = [launch(settings, stores=stores, wait=False) for _ in range(promised_number)]
    dead = []
    for server in servers:
        try:
            server.wait_healthy()
        except ContainerError as failure:
            dead.append(str(failure.in_one_line()))
    assert not dead, (
        f"of {len(servers)} servers that start together on an empty database, {len(dead)} did not"
        f" come up: {dead}"
    )
    assert_equal(
        "the list of experiments in the database that several servers made at the same time",
        servers[0].rows("SELECT name FROM experiments"),
        [("Default",)],
    )
    for server in servers:
        found = server.get("/api/2.0/mlflow/experiments/search?max_results=5")
        assert found.status_code == 200, (
            f"{server.container.name}, one of {len(servers)} servers on one database, answers a"
            f" search with {found.status_code}: {found.text[:200]}"
        )


@dataclass(frozen=True)
class OlderDatabase:
    """The database of `stores` as an older MLflow left it, with an experiment."""

    services: Services
    stores: Stores
    revision: str

    def current_revision(self) -> str:
        """Read the revision of its schema."""
        with self.services.of(PostgreSQL).connect(self.stores.database) as connection:
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        assert len(rows) == 1, f"the database's table alembic_version holds {rows}, not one row"
        return str(rows[0][0])

    def assert_upgraded(self) -> None:
        """Require another revision, and the experiment."""
        assert self.current_revision() != self.revision, (
            f"the database's schema is {self.revision}, as before its upgrade"
        )
        with self.services.of(PostgreSQL).connect(self.stores.database) as connection:
            kept = connection.execute("SELECT 1 FROM experiments WHERE name = 'kept'").fetchall()
        assert kept, "the experiment 'kept' has gone from the database with its upgrade"


@pytest.fixture
def older_database(
    image: ImageUnderTest,
    services: Services,
    stores: Stores,
    account: str,
    run_in_image: RunInImage,
) -> OlderDatabase:
    """The database of `stores`, made by the migrations of the image's MLflow but the newest."""
    script = ("-c", MAKE_OLDER, account)
    made = run_in_image(image.contract.start.interpreter, *script, networked=True)
    assert made.code == 0, f"the image's MLflow can't make an older database: {made}"
    with services.of(PostgreSQL).connect(stores.database) as connection:
        connection.execute(
            "INSERT INTO experiments (name, artifact_location, lifecycle_stage, creation_time,"
            " last_update_time) VALUES ('kept', 's3://kept', 'active', 1, 1)"
        )
    return OlderDatabase(services, stores, made.output.split()[-1])


@pytest.mark.promise("entrypoint.schema_upgrade", "unasked")
def test_older_schema_says_what_to_run(
    image: ImageUnderTest,
    variables: dict[str, str],
    account: str,
    older_database: OlderDatabase,
    launch_on_stores: LaunchOnStores,
) -> None:
    """The log says what to run, and running it makes the schema the newest."""
    uri = {"MLFLOW_BACKEND_STORE_URI": variables["BACKEND_STORE_URI"]}
    server = launch_on_stores(*image.server_command, variables=variables | uri, wait=False)
    older = older_database.revision
    assert_clear_end(server, "its database has an older schema", "db upgrade", older)
    found = older_database.current_revision()
    assert found == older, (
        f"the server was not asked to upgrade the database's schema {older}, which is now {found}"
    )

    program = image.server_command[:-1]
    upgrade = launch_on_stores(*program, "db", "upgrade", account, wait=False)
    code = wait_ended(upgrade, "`db upgrade` has not ended", START)
    assert code == 0, f"`db upgrade` ends with exit code {code}:\n{upgrade.logs()}"
    older_database.assert_upgraded()


@pytest.mark.promise("entrypoint.schema_upgrade", "asked")
def test_older_schema_is_upgraded(
    stores: Stores, older_database: OlderDatabase, launch: Launch
) -> None:
    settings = replace(FULL, name="upgrade").with_environment(MLFLOW_SCHEMA_UPGRADE="true")
    server = launch(settings, stores=stores)
    older_database.assert_upgraded()
    answer = server.get("/api/2.0/mlflow/experiments/get-by-name?experiment_name=kept")
    assert answer.status_code == 200, (
        "asked for the experiment 'kept' of the upgraded database, the server answers"
        f" {answer.status_code}: {answer.text[:500]}"
    )


@dataclass(frozen=True)
class OlderUsers:
    """The tables of basic authentication, as an older MLflow left them in a database."""

    services: Services
    run_in_image: RunInImage
    interpreter: str
    admin: tuple[str, str]
    """Name and password."""

    def make(self, database: str, release: str) -> None:
        """Make them in `database`, as a release of MLflow did."""
        url = self.services.of(PostgreSQL).create_role(database)
        script = ("-c", MAKE_OLDER_USERS, url, USERS_OF_RELEASE[release], *self.admin)
        made = self.run_in_image(self.interpreter, *script, networked=True)
        assert made.code == 0, f"the image's MLflow can't make an older users' database: {made}"

    def settings(self, database: str) -> ServerSettings:
        """Settings of a server whose users are in `database`."""
        lines = (
            *("[mlflow]", "default_permission = READ", f"admin_username = {self.admin[0]}"),
            f"database_uri = {self.services.of(PostgreSQL).url(database)}",
        )
        settings = replace(
            FULL,
            name="older-users",
            options=("--app-name", "basic-auth"),
            files=(("basic_auth.ini", "\n".join(lines)),),
        )
        return settings.with_environment(
            MLFLOW_AUTH_CONFIG_PATH=f"{FILES_PATH}/basic_auth.ini",
            MLFLOW_FLASK_SERVER_SECRET_KEY=token_hex(32),
        )

    def assert_let_in(self, server: MLflowServer) -> None:
        """Require that their password opens the server, and that others don't."""
        path = "/api/2.0/mlflow/experiments/search?max_results=1"
        codes = [server.get(path, auth=(self.admin[0], word)) for word in (self.admin[1], WRONG)]
        found = [answer.status_code for answer in codes]
        assert found == [200, 401], f"the user's own password, and a wrong one, give {found}"


@pytest.fixture
def older_users(services: Services, image: ImageUnderTest, run_in_image: RunInImage) -> OlderUsers:
    """Make users' databases of older releases."""
    admin = ("captain", token_hex(16))
    return OlderUsers(services, run_in_image, image.contract.start.interpreter, admin)


@pytest.mark.promise("entrypoint.schema_upgrade", "users")
def test_users_of_an_older_release(
    services: Services, launch: Launch, older_users: OlderUsers
) -> None:
    """Users have a database of their own, which gets no table of what the server tracks."""
    database = f"users-{token_hex(4)}"
    services.of(PostgreSQL).create(database)
    older_users.make(database, "3.10")

    server = launch(older_users.settings(database))

    older_users.assert_let_in(server)
    with services.of(PostgreSQL).connect(database) as connection:
        strays = connection.execute(
            "SELECT tablename FROM pg_tables WHERE tablename IN ('alembic_version', 'experiments')"
        ).fetchall()
    assert not strays, f"the users' database got tables of runs: {strays}"


@pytest.mark.promise("entrypoint.schema_upgrade", "users")
def test_users_beside_runs_of_an_older_release(
    stores: Stores, older_database: OlderDatabase, older_users: OlderUsers, launch: Launch
) -> None:
    older_users.make(stores.database, "3.6")
    settings = older_users.settings(stores.database)

    server = launch(settings.with_environment(MLFLOW_SCHEMA_UPGRADE="true"), stores=stores)

    older_users.assert_let_in(server)
    older_database.assert_upgraded()


@pytest.mark.promise("entrypoint.collects_garbage")
def test_garbage_is_collected_with_the_servers_variables(
    variables: dict[str, str],
    launch_on_stores: LaunchOnStores,
    client_for: ClientFor,
    new_run: NewRun,
) -> None:
    """A job has neither a shell nor options, and no server that it could ask."""
    server = launch_on_stores(variables=variables, proxied=True)
    client = client_for(server)
    kept, deleted = new_run(client), new_run(client)
    for run_id in (kept, deleted):
        client.log_text(run_id, "a note", "note.txt")
    client.delete_run(deleted)

    job = launch_on_stores("gc", variables=variables, wait=False)

    code = wait_ended(job, "`gc` has not ended", START)
    assert code == 0, f"`gc` ends with exit code {code}:\n{job.logs()}"
    rows = server.rows("SELECT run_uuid FROM runs WHERE run_uuid IN (?, ?)", [kept, deleted])
    assert rows == [(kept,)], f"of a kept run {kept} and a deleted one, these are left: {rows}"
    assert not server.objects(containing=deleted), "an artifact of the deleted run is left"
    assert server.objects(containing=kept), "an artifact of another run is gone"


@pytest.mark.promise("process.exits_with_server")
def test_server_that_is_killed_ends_the_container(
    embedded_server: MLflowServer, launch: Launch, image: ImageUnderTest
) -> None:
    """SIGKILL ends every process but the first, which nothing inside a container can kill."""
    server = launch(embedded_server.settings)
    interpreter = image.contract.start.interpreter
    killed = run_in_container(server.container, interpreter, "-c", KILL_SERVER)
    assert killed.code in (0, KILLED), f"the container's server can't be killed: {killed}"
    code = wait_ended(server, "its server was killed", WITHIN)
    assert code not in (0, 143), (
        f"its server was killed, and the container ended with exit code {code}, as if all were well"
    )


@pytest.mark.promise("process.reaps_zombies")
def test_orphans_leave_the_process_table(
    embedded_server: MLflowServer, image: ImageUnderTest
) -> None:
    assert_reaped(embedded_server.container, image)
