"""MLflow's own basic authentication."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import mlflow
import pytest

from seatrial.backends.base import DATA_PATH
from seatrial.backends.postgresql import PostgreSQL
from seatrial.stack.settings import FILES_PATH

from .comparisons import assert_equal, assert_hidden
from .refused_requests import refused

if TYPE_CHECKING:
    import psycopg
    from mlflow import MlflowClient

    from seatrial.stack.server import MLflowServer
    from seatrial.stack.settings import ServerSettings
    from seatrial.trial.fixtures import ClientFor, Launch, NewExperiment
    from seatrial.trial.pool import ServerPool

pytestmark = pytest.mark.promise("server.authentication", "basic")

SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
CREATE_USER = "/api/2.0/mlflow/users/create"
REFUSED = "error code 403|PERMISSION_DENIED"
UNKNOWN = "error code 401|UNAUTHENTICATED"


@dataclass(frozen=True)
class Guarded:
    """A server with basic authentication, and its administrator."""

    server: MLflowServer
    admin: tuple[str, str]
    """Name and password."""
    database: str | None
    """The database of its users in PostgreSQL; None where they are kept in SQLite."""
    client_for: ClientFor

    def status(self, user: tuple[str, str] | None) -> int:
        """Search as `user`, and return the status of the answer."""
        return self.server.get(SEARCH, auth=user).status_code

    def create_user(self, name: str) -> tuple[str, str]:
        """Make a user without permissions for what other users own."""
        user = (name, secrets.token_urlsafe(16))
        account = dict(zip(("username", "password"), user, strict=True))
        answer = self.server.post(CREATE_USER, json=account, auth=self.admin)
        assert answer.status_code == 200, (
            f"the administrator can't make the user {name}: the server answers"
            f" {answer.status_code} {answer.text[:500]}"
        )
        return user

    def client(self, user: tuple[str, str]) -> MlflowClient:
        """Point MLflow's client at the server as `user`, until another user is asked for."""
        return self.client_for(
            self.server,
            MLFLOW_TRACKING_USERNAME=user[0],
            MLFLOW_TRACKING_PASSWORD=user[1],
        )


@pytest.fixture
def guarded(
    servers: ServerPool, main_settings: ServerSettings, launch: Launch, client_for: ClientFor
) -> Guarded:
    """A server of this test alone, which keeps its users beside what it tracks."""
    admin = ("captain", secrets.token_urlsafe(16))
    database = None
    address = f"sqlite:///{DATA_PATH}/users.db"
    if main_settings.database == "postgresql" and servers.services:
        database = f"users-{secrets.token_hex(4)}"
        servers.services.of(PostgreSQL).create(database)
        address = servers.services.of(PostgreSQL).url(database)
    configuration = f"""\
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {address}
admin_username = {admin[0]}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""
    settings = replace(
        main_settings,
        name="basic-auth",
        options=("--app-name", "basic-auth"),
        files=(("basic_auth.ini", configuration),),
    ).with_environment(
        MLFLOW_AUTH_CONFIG_PATH=f"{FILES_PATH}/basic_auth.ini",
        MLFLOW_AUTH_ADMIN_PASSWORD=admin[1],
        MLFLOW_FLASK_SERVER_SECRET_KEY=secrets.token_hex(32),
    )
    return Guarded(launch(settings), admin, database, client_for)


def test_only_users_get_in(servers: ServerPool, guarded: Guarded) -> None:
    server, admin = guarded.server, guarded.admin
    health = server.get("/health")
    assert (health.status_code, health.text) == (200, "OK"), (
        f"GET /health without a password, as probes ask, is answered with {health.status_code}"
    )
    stranger = server.get(SEARCH)
    assert stranger.status_code == 401, (
        f"a search without a password is answered with {stranger.status_code} instead of 401"
    )
    challenge = stranger.headers.get("WWW-Authenticate", "")
    assert challenge.lower().startswith("basic"), (
        f"the answer 401 asks for {challenge!r}, so that a browser doesn't ask for a password"
    )
    assert "experiments" not in stranger.text, "the answer 401 to a stranger shows experiments"
    user = guarded.create_user("mate")
    for who, account, expected in (
        ("the administrator", admin, 200),
        ("the administrator, with a wrong password,", (admin[0], "wrong"), 401),
        ("an unknown user, with the administrator's password,", ("somebody", admin[1]), 401),
        ("a user", user, 200),
        ("a user, with the administrator's password,", (user[0], admin[1]), 401),
    ):
        status = guarded.status(account)
        assert status == expected, (
            f"a search by {who} is answered with {status} instead of {expected}"
        )
    answer = server.post(CREATE_USER, json={"username": "x", "password": "y" * 16}, auth=user)
    assert answer.status_code == 403, (
        f"a user who isn't an administrator asks for a new user, and is answered with"
        f" {answer.status_code} instead of 403: {answer.text[:500]}"
    )
    for name, password in (admin, user):
        assert_hidden(f"the server's log, of the user {name!r},", password, server.logs(10_000))
    if guarded.database:
        assert servers.services, "the trial is at fault: the users' database has no service"
        with servers.services.of(PostgreSQL).connect(guarded.database) as database:
            _require_hashed(database, [admin, user])


def _require_hashed(database: psycopg.Connection, users: list[tuple[str, str]]) -> None:
    rows = database.execute("SELECT username, password_hash FROM users").fetchall()
    stored = {str(name): str(hashed) for name, hashed in rows}
    assert_equal("the set of users in the database", set(stored), {name for name, _ in users})
    for name, password in users:
        assert_hidden(f"the database's row of the user {name!r}", password, stored[name])


def test_users_have_what_is_theirs(guarded: Guarded, new_experiment: NewExperiment) -> None:
    """Other users can neither read nor change what a user logs with the real client."""
    owner, other = guarded.create_user("owner"), guarded.create_user("other")

    client = guarded.client(owner)
    experiment = new_experiment(client)
    run = client.create_run(experiment).info.run_id
    client.log_param(run, "depth", "7")
    client.log_text(run, "for my eyes", "folder/note.txt")
    assert_equal(
        "the set of params that the owner reads of their run",
        client.get_run(run).data.params,
        {"depth": "7"},
    )
    assert_equal(
        "the text that the owner reads of their artifact",
        mlflow.artifacts.load_text(f"runs:/{run}/folder/note.txt"),
        "for my eyes",
    )

    client = guarded.client(other)
    for request, forbidden in {
        "a look at a run": lambda: client.get_run(run),
        "a look at an experiment": lambda: client.get_experiment(experiment),
        "a new param of a run": lambda: client.log_param(run, "width", "3"),
        "the deletion of a run": lambda: client.delete_run(run),
        "a list of artifacts": lambda: client.list_artifacts(run),
    }.items():
        with refused(f"{request} of another user, without a permission,", match=REFUSED):
            forbidden()
    found = client.search_runs([experiment])
    assert not found, f"a search by one user finds {len(found)} runs of another's experiment"

    for who, stranger in {
        "the owner with a wrong password": (owner[0], "wrong"),
        "an unknown user with the owner's password": ("nobody", owner[1]),
    }.items():
        client = guarded.client(stranger)
        with refused(f"a look at a run by {who}", match=UNKNOWN):
            client.get_run(run)

    data = guarded.client(guarded.admin).get_run(run).data
    assert data.params == {"depth": "7"}, (
        f"the owner logged depth 7, others were refused, and the administrator reads {data.params}"
    )
