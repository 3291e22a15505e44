"""What the entry point adds to MLflow's own program, and how it looks after the server."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import TYPE_CHECKING
from urllib.parse import quote

import mlflow
import pytest
from sqlalchemy import make_url

from seatrial import catalogue
from seatrial.stack.oneoff import run_in_container
from seatrial.stack.settings import FILES_PATH, ServerSettings
from seatrial.stack.waiting import ContainerError, until
from seatrial.trial.clients import client_of, fresh_name

from .endings import KILL_SERVER, KILLED, START, WITHIN, assert_clear_end, ended
from .orphans import assert_reaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container

    from seatrial.contract import Promise
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.server import Server, Stores
    from seatrial.stack.services import ServiceAddresses
    from seatrial.trial.fixtures import Launch, RunInImage
    from seatrial.trial.pool import ServerPool
    from seatrial.trial.session import TrialSession

WAIT = 180
"""Seconds in which a server that waits for its database has given up, whatever its own limit is."""
LATE = token_hex(16)
"""The password of a database that comes up when a test says so."""
NASTY = "@:/?#%&=+ '{}' \"`\\ $ äß漢字🔑"
"""A password with all that makes trouble in addresses, in a shell and in a log."""
BLOCK = "BEGIN; CREATE TABLE experiments (x int); SELECT pg_sleep(3600)"
"""Holds the name of a table, so that whoever initialises the database hangs."""
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
"""How many sessions hang for a lock that another one holds."""
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
"""Makes a database as the MLflow before one migration made it."""


def _in_order(settings: ServerSettings, *command: str, **variables: str) -> ServerSettings:
    """The settings with another command and with more variables."""
    return replace(settings, command=command).with_environment(**variables)


def _tables(services: ServiceAddresses, stores: Stores) -> int:
    """How many tables the database of `stores` has."""
    with services.connect(stores.database) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone()
    return int(found[0]) if found else 0


def _as_printed(backend: str, root: str, port: str) -> tuple[str, ...]:
    """The command that the guide prints, with these words in the place of its variables."""
    return (
        *("mlflow", "server", "--backend-store-uri", backend, "--default-artifact-root", root),
        *("--host", "0.0.0.0", "--port", port),
    )


@pytest.fixture
def stores(servers: ServerPool, image: ImageUnderTest) -> Stores:
    """A fresh database and a fresh bucket."""
    return servers.fresh_stores(image, FULL)


@pytest.fixture
def account(services: ServiceAddresses, stores: Stores) -> str:
    """The URL of `stores` for a command line, which everybody may see."""
    return services.create_role(stores.database)


@pytest.fixture
def variables(image: ImageUnderTest, services: ServiceAddresses, stores: Stores) -> dict[str, str]:
    """The variables of the guide, for a server on `stores`."""
    return {
        "MLFLOW_SERVER_HOST": "0.0.0.0",
        "MLFLOW_SERVER_PORT": str(image.contract.start.port),
        "BACKEND_STORE_URI": services.database_url(stores.database),
        "ARTIFACT_ROOT": f"s3://{stores.bucket}",
    }


def _assert_works_on(
    server: Server,
    services: ServiceAddresses,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """A run is in the database, and its artifact in the bucket."""
    name = fresh_name(request)
    with client_of(server, monkeypatch) as client:
        run_id = client.create_run(client.create_experiment(name)).info.run_id
        client.log_text(run_id, name, "note.txt")
        assert mlflow.artifacts.load_text(f"runs:/{run_id}/note.txt") == name
    assert _tables(services, server.stores), "the database that was asked for is empty"
    rows = server.rows("SELECT name FROM experiments WHERE name = ?", [name])
    assert rows == [(name,)], "the experiment is not in the database that was asked for"
    objects = server.objects(containing=run_id)
    assert list(objects.values()) == [name.encode()], (
        "the artifact is not in the bucket that was asked for"
    )


@pytest.mark.promise("entrypoint.forms", "server")
def test_first_example_of_the_guide(
    image: ImageUnderTest,
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    port = str(image.contract.start.port)
    command = _as_printed("sqlite:///mlflow.db", "./mlruns", port)[1:]
    variables = {"MLFLOW_SERVER_HOST": "0.0.0.0", "MLFLOW_SERVER_PORT": port}
    server = launch(_in_order(PLAIN, *command, **variables))
    name = fresh_name(request)
    with client_of(server, monkeypatch) as client:
        run_id = client.create_run(client.create_experiment(name)).info.run_id
        client.log_metric(run_id, "loss", 0.5)
        assert client.get_run(run_id).data.metrics == {"loss": 0.5}


@pytest.mark.promise("entrypoint.forms", "mlflow server")
def test_compose_file_of_the_guide(
    services: ServiceAddresses,
    stores: Stores,
    account: str,
    variables: dict[str, str],
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """As Compose gives it to the container where an `.env` file holds the variables."""
    command = _as_printed(
        account,
        variables["ARTIFACT_ROOT"],
        variables["MLFLOW_SERVER_PORT"],
    )
    server = launch(_in_order(FULL, *command, **variables), stores=stores)
    _assert_works_on(server, services, monkeypatch, request)


@pytest.mark.promise("entrypoint.forms", "none")
def test_everything_from_the_environment(
    services: ServiceAddresses,
    stores: Stores,
    variables: dict[str, str],
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """A client that knows nothing of the bucket gets its artifacts there, through the server."""
    settings = replace(_in_order(FULL, **variables), access="proxied")
    server = launch(settings, stores=stores)
    _assert_works_on(server, services, monkeypatch, request)


@pytest.mark.promise("entrypoint.expands_variables")
def test_names_of_variables_in_the_command(
    services: ServiceAddresses,
    stores: Stores,
    variables: dict[str, str],
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """As Kubernetes, or a Compose file with `$$`, hands the guide's command over."""
    command = _as_printed("${BACKEND_STORE_URI}", "${ARTIFACT_ROOT}", "${MLFLOW_SERVER_PORT}")
    server = launch(_in_order(FULL, *command, **variables), stores=stores)
    _assert_works_on(server, services, monkeypatch, request)


@pytest.mark.promise("entrypoint.expands_variables")
def test_values_that_vanished_on_the_way(
    services: ServiceAddresses,
    stores: Stores,
    variables: dict[str, str],
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """The guide's compose file as printed: Compose looks for the variables on its own side.

    It finds none, and puts nothing in their places.
    """
    command = "mlflow server --backend-store-uri --default-artifact-root --host 0.0.0.0 --port"
    server = launch(_in_order(FULL, *command.split(), **variables), stores=stores)
    _assert_works_on(server, services, monkeypatch, request)


@pytest.mark.promise("entrypoint.expands_variables")
def test_variable_that_is_not_set(image: ImageUnderTest, launch: Launch) -> None:
    settings = _in_order(PLAIN, *image.server_command, "--port", f"${{{UNSET}}}")
    server = launch(settings, wait=False)
    assert_clear_end(server, f"the variable {UNSET} in the command is not set", UNSET)


@pytest.mark.promise("entrypoint.secret_files")
def test_secrets_in_files(
    servers: ServerPool,
    image: ImageUnderTest,
    services: ServiceAddresses,
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """Each file ends with a line break, as editors leave it."""
    # For the trial it keeps artifacts in files: a server on S3 is given the keys as variables.
    plain = replace(PLAIN, name="secret-files", database="postgresql")
    stores = servers.fresh_stores(image, plain)
    services.create_bucket(stores.bucket)
    given = services.server_environment()
    secrets = {
        "MLFLOW_BACKEND_STORE_URI": services.database_url(stores.database),
        **{name: given.pop(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
    }
    by_file = {f"{name}_FILE": f"{FILES_PATH}/{name.lower()}" for name in secrets}
    command = (
        *(*image.server_command, "--host", "0.0.0.0"),
        *("--port", str(image.contract.start.port)),
        *("--artifacts-destination", f"s3://{stores.bucket}"),
    )
    settings = replace(
        _in_order(plain, *command, **given, **by_file),
        files=tuple((name.lower(), f"{value}\n") for name, value in secrets.items()),
    )
    server = launch(settings, stores=stores)
    seen_on_s3 = replace(server, settings=replace(settings, store="s3"))
    _assert_works_on(seen_on_s3, services, monkeypatch, request)


@pytest.mark.promise("entrypoint.secret_files")
def test_secret_file_that_is_missing(image: ImageUnderTest, launch: Launch) -> None:
    path = f"{FILES_PATH}/nowhere"
    variable = "MLFLOW_BACKEND_STORE_URI_FILE"
    settings = _in_order(PLAIN, *image.server_command, **{variable: path})
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
        _in_order(PLAIN, *image.server_command, **{variable: path}),
        files=(("long", "x" * 200_000), ("zero", "sqlite:///a\0b.db"), ("empty", "\n")),
    )
    server = launch(settings, wait=False)
    assert_clear_end(server, f"{variable} names what is no small text", variable, path)


def _assert_hidden(server: Server, secret: str) -> None:
    """Nothing that a stranger on the machine sees of a container shows `secret`."""
    top = server.container.top(ps_args="-eo pid,args")
    shown = [line for line in top["Processes"] if secret in " ".join(line)]
    assert not shown, "the process list shows the database's password"
    inside = run_in_container(
        server.container, server.image.contract.start.interpreter, "-c", SHOW_ARGUMENTS
    )
    assert inside.code == 0, f"the process table can't be read: {inside}"
    assert secret not in inside.output, "/proc shows the database's password"
    server.container.reload()
    health = server.container.attrs["Config"].get("Healthcheck") or {"Test": []}
    if health["Test"][:1] == ["CMD"]:
        asked = run_in_container(server.container, *health["Test"][1:])
        assert secret not in asked.output, "the health check shows the database's password"
    assert secret not in server.logs(10_000), "the log shows the database's password"


@pytest.mark.promise("entrypoint.hides_secrets")
@pytest.mark.parametrize("spelling", ["plain", "encoded", "as-it-is"])
def test_password_of_a_running_server(
    image: ImageUnderTest,
    services: ServiceAddresses,
    stores: Stores,
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    spelling: str,
) -> None:
    """Its command holds the database's URL, with all that SQLAlchemy takes in a password."""
    secret = token_hex(8)
    password = secret if spelling == "plain" else NASTY.format(secret)
    url = services.create_role(stores.database, password)
    if spelling == "as-it-is":
        # SQLAlchemy ends a password at the first `@`, and decodes what stands behind a `%`.
        written = password.replace("%", "%25").replace("@", "%40")
        url = url.replace(quote(password, safe=""), written)
    command = (
        *(*image.server_command, "--host", "0.0.0.0", "--backend-store-uri", url),
        *("--port", str(image.contract.start.port), "--artifacts-destination"),
        f"s3://{stores.bucket}",
    )
    settings = replace(_in_order(FULL, *command), access="proxied")
    server = launch(settings, stores=stores)
    _assert_works_on(server, services, monkeypatch, request)
    _assert_hidden(server, secret)


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
    server = launch(_in_order(PLAIN, *image.server_command, "--backend-store-uri", url), wait=False)
    code = ended(server, "its database can't be used", WAIT)
    assert code, "exit code 0 hides the failure"
    assert WRONG not in server.logs(10_000), "the log shows the password of the database's URL"


def _asked(database: Container, statement: str) -> str:
    """What the database answers; nothing while it doesn't."""
    words = ("psql", "-U", "late", "-d", "late", "-Atc", statement)
    asked = run_in_container(database, *words)
    return "" if asked.code else asked.output.strip()


@dataclass
class Late:
    """A PostgreSQL of a test's own, which starts when the test wants it to."""

    trial: TrialSession
    name: str
    containers: list[Container] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address, whether it is there or not."""
        return f"postgresql+psycopg2://late:{LATE}@{self.name}:5432/late"

    def start(self) -> Container:
        """Start it, and wait until it accepts connections."""
        container = self.trial.client.containers.run(
            catalogue.load_builtin().services["postgres"].reference,
            name=self.name,
            detach=True,
            network=self.trial.session.network,
            labels=self.trial.session.labels,
            environment={
                "POSTGRES_USER": "late",
                "POSTGRES_PASSWORD": LATE,
                "POSTGRES_DB": "late",
            },
        )
        self.containers.append(container)
        until(
            lambda: _accepts(container),
            container=container,
            what="accept connections",
            limit=WAIT,
        )
        return container


@pytest.fixture
def late(trial: TrialSession) -> Iterator[Late]:
    made = Late(trial, trial.fresh_name("late"))
    yield made
    for container in made.containers:
        container.remove(force=True, v=True)


def _accepts(database: Container) -> bool:
    return run_in_container(database, "pg_isready", "-h", "127.0.0.1").code == 0


class TestWaitsForDatabase:
    """For one that isn't up yet, and not for what no waiting mends."""

    pytestmark = pytest.mark.promise("entrypoint.waits_for_database")

    def _settings(self, image: ImageUnderTest, url: str, **variables: str) -> ServerSettings:
        command = (
            *(*image.server_command, "--host", "0.0.0.0"),
            *("--port", str(image.contract.start.port), "--backend-store-uri", url),
        )
        return _in_order(PLAIN, *command, **variables)

    def test_that_comes_up_later(self, image: ImageUnderTest, launch: Launch, late: Late) -> None:
        """First its name leads nowhere, then it refuses, then it starts, then it's there."""
        server = launch(self._settings(image, late.url), wait=False)
        time.sleep(5 * image.scale)
        server.container.reload()
        assert server.container.status == "running", (
            f"it did not wait for its database, but ended:\n{server.logs()}"
        )
        late.start()
        server.wait_healthy()

    def test_that_stops_answering(self, image: ImageUnderTest, launch: Launch, late: Late) -> None:
        """Its machine still accepts connections, which is no answer."""
        database = late.start()
        database.kill(signal="SIGSTOP")
        settings = self._settings(image, late.url, MLFLOW_DATABASE_WAIT="3")
        server = launch(settings, wait=False)
        assert_clear_end(server, "its database does not answer", "late", limit=WAIT)

    @pytest.mark.parametrize("fault", ["holder-hangs", "database-dies"])
    def test_that_another_server_makes_ready(
        self,
        image: ImageUnderTest,
        launch: Launch,
        late: Late,
        fault: str,
    ) -> None:
        """One server hangs while it initialises the database; the next one waits for it."""
        database = late.start()
        database.exec_run(["psql", "-U", "late", "-d", "late", "-c", BLOCK], detach=True)
        url = late.url
        holder = launch(self._settings(image, url), wait=False)
        until(
            lambda: _asked(database, WAITING) not in ("", "0"),
            container=holder.container,
            what="begin to initialise its database",
            limit=image.contract.start.ready_within * image.scale,
        )
        limit = "5" if fault == "holder-hangs" else "600"
        settings = self._settings(image, url, MLFLOW_SCHEMA_LOCK_WAIT=limit)
        server = launch(settings, wait=False)
        if fault == "database-dies":
            time.sleep(20 * image.scale)
            server.container.reload()
            assert server.container.status == "running", f"it ended:\n{server.logs()}"
            database.kill()
        assert_clear_end(server, f"it waits for another server, and the {fault}", limit=WAIT)

    def test_that_never_comes(self, image: ImageUnderTest, launch: Launch) -> None:
        """It says what it waited for, and why in vain; its limit is lowered if it knows how."""
        url = f"postgresql+psycopg2://somebody:{WRONG}@nobody-here:5432/missing"
        server = launch(self._settings(image, url, MLFLOW_DATABASE_WAIT="3"), wait=False)
        assert_clear_end(server, "its database never comes", "nobody-here", "missing", limit=WAIT)
        assert WRONG not in server.logs(1000), "the log shows the database's password"

    @pytest.mark.parametrize(
        ("password", "database", "reason"),
        [
            (WRONG, "", "password authentication failed"),
            ("", "no_such_database", 'database "no_such_database" does not'),
        ],
        ids=["wrong-password", "unknown-database"],
    )
    def test_that_lets_nobody_in(
        self,
        image: ImageUnderTest,
        account: str,
        launch: Launch,
        password: str,
        database: str,
        reason: str,
    ) -> None:
        url = make_url(account)
        url = url.set(password=password or url.password, database=database or url.database)
        # Far longer than the end may take.
        settings = self._settings(
            image, url.render_as_string(hide_password=False), MLFLOW_DATABASE_WAIT="600"
        )
        server = launch(settings, wait=False)
        assert_clear_end(server, "its database lets it not in", reason, limit=START)


@pytest.mark.promise("entrypoint.replicas")
def test_replicas_start_together_on_an_empty_database(
    promised: Promise, stores: Stores, launch: Launch
) -> None:
    settings = replace(FULL, name="replicas")
    servers = [launch(settings, stores=stores, wait=False) for _ in range(int(str(promised.value)))]
    dead = []
    for server in servers:
        try:
            server.wait_healthy()
        except ContainerError as failure:
            dead.append(str(failure.in_one_line()))
    assert not dead, f"{len(dead)} of {len(servers)} did not come up: {dead}"
    assert servers[0].rows("SELECT name FROM experiments") == [("Default",)]
    for server in servers:
        found = server.get("/api/2.0/mlflow/experiments/search?max_results=5")
        assert found.status_code == 200, f"{server.container.name}: {found.status_code}"


@pytest.fixture
def older(
    image: ImageUnderTest,
    services: ServiceAddresses,
    stores: Stores,
    account: str,
    run_in_image: RunInImage,
) -> str:
    """The database of `stores` as an older MLflow left it, with an experiment: its revision."""
    script = ("-c", MAKE_OLDER, account)
    made = run_in_image(image.contract.start.interpreter, *script, networked=True)
    assert made.code == 0, f"the image's MLflow can't make an older database: {made}"
    with services.connect(stores.database) as connection:
        connection.execute(
            "INSERT INTO experiments (name, artifact_location, lifecycle_stage, creation_time,"
            " last_update_time) VALUES ('kept', 's3://kept', 'active', 1, 1)"
        )
    return made.output.split()[-1]


def _revision(services: ServiceAddresses, stores: Stores) -> str:
    with services.connect(stores.database) as connection:
        [row] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    return str(row[0])


def _assert_upgraded(services: ServiceAddresses, stores: Stores, older: str) -> None:
    assert _revision(services, stores) != older, "the schema is as old as before"
    with services.connect(stores.database) as connection:
        kept = connection.execute("SELECT 1 FROM experiments WHERE name = 'kept'").fetchall()
    assert kept, "the experiment is gone"


@pytest.mark.promise("entrypoint.schema_upgrade", "unasked")
def test_older_schema_says_what_to_run(
    image: ImageUnderTest,
    services: ServiceAddresses,
    stores: Stores,
    variables: dict[str, str],
    account: str,
    older: str,
    launch: Launch,
) -> None:
    """And when that is run, the schema is the newest."""
    settings = _in_order(FULL, *image.server_command, **variables)
    settings = settings.with_environment(MLFLOW_BACKEND_STORE_URI=variables["BACKEND_STORE_URI"])
    server = launch(settings, stores=stores, wait=False)
    assert_clear_end(server, "its database has an older schema", "db upgrade", older)
    assert _revision(services, stores) == older, "it changed the schema unasked"
    program = image.server_command[:-1]
    settings = _in_order(FULL, *program, "db", "upgrade", account)
    upgrade = launch(settings, stores=stores, wait=False)
    code = ended(upgrade, "`db upgrade` has not ended", START)
    assert code == 0, f"`db upgrade` ends with exit code {code}:\n{upgrade.logs()}"
    _assert_upgraded(services, stores, older)


@pytest.mark.promise("entrypoint.schema_upgrade", "asked")
def test_older_schema_is_upgraded(
    services: ServiceAddresses, stores: Stores, older: str, launch: Launch
) -> None:
    settings = replace(FULL, name="upgrade").with_environment(MLFLOW_SCHEMA_UPGRADE="true")
    server = launch(settings, stores=stores)
    _assert_upgraded(services, stores, older)
    answer = server.get("/api/2.0/mlflow/experiments/get-by-name?experiment_name=kept")
    assert answer.status_code == 200, f"the server doesn't find it: {answer.text}"


@pytest.mark.promise("process.exits_with_server")
def test_server_that_is_killed_ends_the_container(
    embedded_server: Server, launch: Launch, image: ImageUnderTest
) -> None:
    """By a signal that it can't hear: every process but the first one, which nothing inside can."""
    server = launch(embedded_server.settings)
    interpreter = image.contract.start.interpreter
    killed = run_in_container(server.container, interpreter, "-c", KILL_SERVER)
    assert killed.code in (0, KILLED), f"its server can't be killed: {killed}"
    code = ended(server, "its server was killed", WITHIN)
    assert code not in (0, 143), f"exit code {code} hides that the server was killed"


@pytest.mark.promise("process.reaps_zombies")
def test_orphans_leave_the_process_table(embedded_server: Server, image: ImageUnderTest) -> None:
    assert_reaped(embedded_server.container, image)
