"""What tests ask for.

The names begin with `seatrial_`, so that they collide with nobody's. The acceptance tests use short
ones, which their conftest declares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from seatrial.trial.plugin import RUN_KEY
from seatrial.trial.sharing import uses_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mlflow import MlflowClient

    from seatrial.contract import Promise
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.model_server import ModelServer
    from seatrial.stack.oneoff import Outcome
    from seatrial.stack.server import Server, Stores
    from seatrial.stack.services import ServiceAddresses
    from seatrial.stack.settings import ServerSettings
    from seatrial.stack.workspace import Workspace
    from seatrial.trial.model_serving import Serving
    from seatrial.trial.parametrize import Case
    from seatrial.trial.pool import ServerPool
    from seatrial.trial.run import Run
    from seatrial.trial.session import TrialSession


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
    ) -> Outcome:
        """Run `command` in place of the entry point.

        `copy` puts local folders into inner ones; `networked` commands reach the services.
        """


@pytest.fixture(scope="session")
def seatrial_run(pytestconfig: pytest.Config) -> Run:
    """The parts of the run that this process holds."""
    return pytestconfig.stash[RUN_KEY]


@pytest.fixture(scope="session")
def seatrial_trial(seatrial_run: Run) -> TrialSession:
    """The run: its options, its images, and the engine."""
    return seatrial_run.trial


@pytest.fixture(scope="session")
def seatrial_servers(seatrial_run: Run) -> ServerPool:
    """The servers and services of the run."""
    return seatrial_run.servers


@pytest.fixture
def seatrial_case(request: pytest.FixtureRequest) -> Case:
    """The image and the promises that this run of the test is about."""
    found: Case = request.param
    if found.missing:
        pytest.skip(found.missing)
    return found


@pytest.fixture
def seatrial_image(seatrial_trial: TrialSession, seatrial_case: Case) -> ImageUnderTest:
    """The image under test."""
    return seatrial_trial.image(seatrial_case.source)


@pytest.fixture
def seatrial_promised(seatrial_case: Case) -> Promise:
    """The one promise that this run of the test is about."""
    return seatrial_case.promises[0]


@pytest.fixture
def seatrial_services(seatrial_servers: ServerPool) -> ServiceAddresses:
    """PostgreSQL and MinIO."""
    if seatrial_servers.services is None:
        pytest.skip("PostgreSQL and MinIO are not there: runs with --stack full")
    return seatrial_servers.services


@pytest.fixture
@uses_server("tracking", shared="direct server")
def seatrial_direct_server(seatrial_servers: ServerPool, seatrial_image: ImageUnderTest) -> Server:
    """The shared server whose clients reach the artifact store by themselves."""
    return seatrial_servers.shared(seatrial_image, seatrial_servers.direct(seatrial_image))


@pytest.fixture
@uses_server("tracking", shared="embedded server")
def seatrial_embedded_server(
    seatrial_servers: ServerPool, seatrial_image: ImageUnderTest
) -> Server:
    """The shared server on SQLite and a volume."""
    from seatrial.stack.settings import EMBEDDED

    return seatrial_servers.shared(seatrial_image, EMBEDDED)


@pytest.fixture
@uses_server("tracking", shared="main server")
def seatrial_server(seatrial_servers: ServerPool, seatrial_image: ImageUnderTest) -> Server:
    """The server that most tests share: artifacts go through it."""
    return seatrial_servers.main(seatrial_image)


@pytest.fixture
def seatrial_main_settings(seatrial_server: Server) -> ServerSettings:
    """The configuration of the server that most tests share."""
    return seatrial_server.settings


@pytest.fixture
@uses_server("tracking", shared="main server")
def seatrial_postgresql_server(
    seatrial_servers: ServerPool, seatrial_image: ImageUnderTest
) -> Server:
    """The shared server on PostgreSQL, which may be the one that most tests share."""
    return seatrial_servers.on(seatrial_image, database="postgresql")


@pytest.fixture
@uses_server("tracking", shared="main server")
def seatrial_s3_server(seatrial_servers: ServerPool, seatrial_image: ImageUnderTest) -> Server:
    """The shared server before S3, which may be the one that most tests share."""
    return seatrial_servers.on(seatrial_image, store="s3")


@pytest.fixture
@uses_server("tracking")
def seatrial_launch(
    seatrial_servers: ServerPool, seatrial_image: ImageUnderTest
) -> Iterator[Launch]:
    """Start servers for this test alone."""
    started: list[Server] = []

    def start(
        settings: ServerSettings, *, stores: Stores | None = None, wait: bool = True
    ) -> Server:
        server = seatrial_servers.launch(seatrial_image, settings, stores=stores, wait=False)
        started.append(server)
        if wait:
            server.wait_healthy()
        return server

    yield start
    for server in started:
        server.remove()


@pytest.fixture
def seatrial_run_in_image(
    seatrial_trial: TrialSession, seatrial_image: ImageUnderTest
) -> RunInImage:
    """Run one command in the image."""
    from seatrial.stack.oneoff import run_in_image

    def run(*command: str, copy: dict[Path, str] | None = None, networked: bool = False) -> Outcome:
        return run_in_image(
            seatrial_image, seatrial_trial.session, command, copy or {}, networked=networked
        )

    return run


@pytest.fixture
def seatrial_workspace(seatrial_trial: TrialSession, seatrial_image: ImageUnderTest) -> Workspace:
    """A folder of this test alone, for the image's own programs to work in."""
    return seatrial_trial.workspace(seatrial_image)


@pytest.fixture
@uses_server("model", shared="served models")
def seatrial_serving(seatrial_run: Run, seatrial_image: ImageUnderTest) -> Serving:
    """The models' servers that the image under test stands for."""
    return seatrial_run.serving.of(seatrial_image)


@pytest.fixture
def seatrial_serve(seatrial_serving: Serving) -> Iterator[StartServing]:
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
        server = seatrial_serving.launch(kind, environment=variables, user=user, memory=memory)
        started.append(server)
        if wait:
            server.wait_ready()
        return server

    yield start
    for server in started:
        server.remove()


@pytest.fixture
def seatrial_client(
    seatrial_server: Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MlflowClient]:
    """The MLflow client of `seatrial_server`."""
    from seatrial.trial.clients import client_of

    with client_of(seatrial_server, monkeypatch) as found:
        yield found


@pytest.fixture
def seatrial_experiment(seatrial_client: MlflowClient, request: pytest.FixtureRequest) -> str:
    """The id of a fresh experiment, named after the test."""
    from seatrial.trial.clients import fresh_name

    return seatrial_client.create_experiment(fresh_name(request))


@pytest.fixture
def seatrial_direct_client(
    seatrial_direct_server: Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MlflowClient]:
    """The MLflow client of `seatrial_direct_server`."""
    from seatrial.trial.clients import client_of

    with client_of(seatrial_direct_server, monkeypatch) as found:
        yield found
