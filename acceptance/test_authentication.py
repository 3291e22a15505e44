"""MLflow's own basic authentication."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from seatrial.backends.base import DATA_PATH
from seatrial.backends.postgresql import PostgreSQL
from seatrial.stack.settings import FILES_PATH

if TYPE_CHECKING:
    import psycopg
    from mlflow import MlflowClient

    from seatrial.stack.server import Server
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

    server: Server
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
        assert answer.status_code == 200, f"no user can be made: {answer.status_code} {answer.text}"
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
    assert (health.status_code, health.text) == (200, "OK"), "a probe has no password to give"
    stranger = server.get(SEARCH)
    assert stranger.status_code == 401, f"without a password: {stranger.status_code}"
    assert stranger.headers["WWW-Authenticate"].lower().startswith("basic")
    assert "experiments" not in stranger.text
    assert guarded.status((admin[0], "wrong")) == 401, "a wrong password"
    assert guarded.status(("somebody", admin[1])) == 401, "an unknown user"
    assert guarded.status(admin) == 200
    user = guarded.create_user("mate")
    assert guarded.status(user) == 200
    assert guarded.status((user[0], admin[1])) == 401, "somebody else's password"
    answer = server.post(CREATE_USER, json={"username": "x", "password": "y" * 16}, auth=user)
    assert answer.status_code == 403, f"who isn't an administrator made a user: {answer.text}"
    for name, password in (admin, user):
        assert password not in server.logs(10_000), f"the log shows the password of {name}"
    if guarded.database:
        assert servers.services
        with servers.services.of(PostgreSQL).connect(guarded.database) as database:
            _require_hashed(database, [admin, user])


def _require_hashed(database: psycopg.Connection, users: list[tuple[str, str]]) -> None:
    rows = database.execute("SELECT username, password_hash FROM users").fetchall()
    stored = {str(name): str(hashed) for name, hashed in rows}
    assert set(stored) == {name for name, _ in users}
    for name, password in users:
        assert password not in stored[name], f"the password of {name} is stored as it is"


def test_users_have_what_is_theirs(guarded: Guarded, new_experiment: NewExperiment) -> None:
    """Other users can neither read nor change what a user logs with the real client."""
    owner, other = guarded.create_user("owner"), guarded.create_user("other")

    client = guarded.client(owner)
    experiment = new_experiment(client)
    run = client.create_run(experiment).info.run_id
    client.log_param(run, "depth", "7")
    client.log_text(run, "for my eyes", "folder/note.txt")
    assert client.get_run(run).data.params == {"depth": "7"}
    assert mlflow.artifacts.load_text(f"runs:/{run}/folder/note.txt") == "for my eyes"

    client = guarded.client(other)
    for forbidden in (
        lambda: client.get_run(run),
        lambda: client.get_experiment(experiment),
        lambda: client.log_param(run, "width", "3"),
        lambda: client.delete_run(run),
        lambda: client.list_artifacts(run),
    ):
        with pytest.raises(MlflowException, match=REFUSED):
            forbidden()
    assert not client.search_runs([experiment]), "a search shows what belongs to somebody else"

    for stranger in ((owner[0], "wrong"), ("nobody", owner[1])):
        client = guarded.client(stranger)
        with pytest.raises(MlflowException, match=UNKNOWN):
            client.get_run(run)

    data = guarded.client(guarded.admin).get_run(run).data
    assert data.params == {"depth": "7"}, f"somebody else changed the run: {data.params}"
