"""What acceptance tests ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from seatrial.stack import oneoff
from seatrial.stack.settings import EMBEDDED
from seatrial.trial.clients import client_of, fresh_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mlflow import MlflowClient

    from seatrial.contract import Promise
    from seatrial.stack.model_server import ModelServer
    from seatrial.stack.server import Server, Stores
    from seatrial.stack.services import ServiceAddresses
    from seatrial.stack.settings import ServerSettings
    from seatrial.stack.subject import Subject
    from seatrial.stack.workplace import Workplace
    from seatrial.trial.promising import Case
    from seatrial.trial.serving import Serving
    from seatrial.trial.state import Trial

TRIAL_KEY = pytest.StashKey["Trial"]()


class Launch(Protocol):
    """Start a server for one test; it is removed when the test ends."""

    def __call__(
        self, settings: ServerSettings, *, stores: Stores | None = None, wait: bool = True
    ) -> Server:
        """Start it, and wait for its health unless `wait` is off."""


class StartServing(Protocol):
    """Start a model's server for one test; it is removed when the test ends."""

    def __call__(
        self,
        kind: str,
        *,
        wait: bool = True,
        variables: Mapping[str, str] | None = None,
        user: str | None = None,
        memory: int | None = None,
    ) -> ModelServer:
        """Start it, and wait until it is ready unless `wait` is off."""


class RunInImage(Protocol):
    """Run one command in a fresh container of the image, and give back how it ended."""

    def __call__(
        self, *command: str, copy: dict[Path, str] | None = None, networked: bool = False
    ) -> oneoff.Outcome:
        """Run `command` in place of the entry point.

        `copy` puts local folders into inner ones; `networked` commands reach the services.
        """


@pytest.fixture(scope="session")
def trial(pytestconfig: pytest.Config) -> Trial:
    """The running trial."""
    return pytestconfig.stash[TRIAL_KEY]


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """The image and the promises that this run of the test is about."""
    found: Case = request.param
    return found


@pytest.fixture
def subject(case: Case) -> Subject:
    """The image under test."""
    return case.subject


@pytest.fixture
def promised(case: Case) -> Promise:
    """The one promise that this run of the test is about."""
    return case.promises[0]


@pytest.fixture
def services(trial: Trial) -> ServiceAddresses:
    """PostgreSQL and MinIO."""
    if trial.services is None:
        pytest.skip("PostgreSQL and MinIO are not there: runs with --stack full")
    return trial.services


@pytest.fixture
def server(trial: Trial, subject: Subject) -> Server:
    """The server that most tests share: artifacts go through it."""
    return trial.main(subject)


@pytest.fixture
def main_settings(server: Server) -> ServerSettings:
    """The configuration of the server that most tests share."""
    return server.settings


@pytest.fixture
def postgresql_server(trial: Trial, subject: Subject) -> Server:
    """The shared server on PostgreSQL, which may be the one that most tests share."""
    return trial.on(subject, database="postgresql")


@pytest.fixture
def s3_server(trial: Trial, subject: Subject) -> Server:
    """The shared server before S3, which may be the one that most tests share."""
    return trial.on(subject, store="s3")


@pytest.fixture
def direct_server(trial: Trial, subject: Subject) -> Server:
    """The shared server whose clients reach the artifact store by themselves."""
    return trial.shared(subject, trial.direct(subject))


@pytest.fixture
def embedded_server(trial: Trial, subject: Subject) -> Server:
    """The shared server on SQLite and a volume."""
    return trial.shared(subject, EMBEDDED)


@pytest.fixture
def launch(trial: Trial, subject: Subject) -> Iterator[Launch]:
    """Start servers for this test alone."""
    started: list[Server] = []

    def start(
        settings: ServerSettings, *, stores: Stores | None = None, wait: bool = True
    ) -> Server:
        server = trial.launch(subject, settings, stores=stores, wait=False)
        started.append(server)
        if wait:
            server.wait_healthy()
        return server

    yield start
    for server in started:
        server.remove()


@pytest.fixture
def run_in_image(trial: Trial, subject: Subject) -> RunInImage:
    """Run one command in the image."""

    def run(
        *command: str, copy: dict[Path, str] | None = None, networked: bool = False
    ) -> oneoff.Outcome:
        return oneoff.run_in_image(subject, trial.session, command, copy or {}, networked=networked)

    return run


@pytest.fixture
def workplace(trial: Trial, subject: Subject) -> Workplace:
    """A folder of this test alone, for the image's own programs to work in."""
    return trial.workplace(subject)


@pytest.fixture
def serving(trial: Trial, subject: Subject) -> Serving:
    """The models' servers that the image under test stands for."""
    return trial.serving(subject)


@pytest.fixture
def serve(serving: Serving) -> Iterator[StartServing]:
    """Start models' servers for this test alone."""
    started: list[ModelServer] = []

    def start(
        kind: str,
        *,
        wait: bool = True,
        variables: Mapping[str, str] | None = None,
        user: str | None = None,
        memory: int | None = None,
    ) -> ModelServer:
        server = serving.launch(kind, environment=variables, user=user, memory=memory)
        started.append(server)
        if wait:
            server.wait_ready()
        return server

    yield start
    for server in started:
        server.remove()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """The MLflow client of `server`."""
    with client_of(server, monkeypatch) as found:
        yield found


@pytest.fixture
def experiment(client: MlflowClient, request: pytest.FixtureRequest) -> str:
    """The id of a fresh experiment, named after the test."""
    return client.create_experiment(fresh_name(request))


@pytest.fixture
def direct_client(direct_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """The MLflow client of `direct_server`."""
    with client_of(direct_server, monkeypatch) as found:
        yield found
