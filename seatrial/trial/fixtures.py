"""The fixtures of the trial.

Their names begin with `seatrial_`, so that they collide with those of no other plugin. The
acceptance tests use short names, which their conftest declares.
"""

from __future__ import annotations

from contextlib import ExitStack
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
    from seatrial.stack.run_container import CommandOutcome
    from seatrial.stack.server import MLflowServer, Stores
    from seatrial.stack.services import Services
    from seatrial.stack.settings import ServerSettings
    from seatrial.stack.workspace import Workspace
    from seatrial.trial.model_serving import ModelServers
    from seatrial.trial.parametrize import TrialCase
    from seatrial.trial.pool import ServerPool
    from seatrial.trial.run import Run
    from seatrial.trial.session import TrialSession


class Launch(Protocol):
    """Start a server for one test; it is removed when the test ends."""

    def __call__(
        self, settings: ServerSettings, *, stores: Stores | None = None, wait: bool = True
    ) -> MLflowServer:
        """Start the server, and wait for its health unless `wait` is off."""


class ClientFor(Protocol):
    """Point MLflow's client, and the fluent API of this process, at a server."""

    def __call__(self, server: MLflowServer, **variables: str) -> MlflowClient:
        """Return the client of `server`.

        The environment holds until the next call or the end of the test: two clients that need
        different variables can't be used in turns.

        Args:
            server: what the client talks to.
            variables: of the client's environment, beside those that the server asks for.
        """


class NewName(Protocol):
    """Make up a name for an experiment or a model: the test's own, and one that no other has."""

    def __call__(self) -> str:
        """Return another name at each call."""


class NewExperiment(Protocol):
    """Create an experiment, named after the test."""

    def __call__(self, client: MlflowClient) -> str:
        """Return the id of the experiment."""


class NewRun(Protocol):
    """Create a run in an experiment of its own, named after the test."""

    def __call__(self, client: MlflowClient) -> str:
        """Return the id of the run."""


class StartServing(Protocol):
    """Start a model's server for one test; it is removed when the test ends."""

    def __call__(
        self,
        model: str,
        *,
        wait: bool = True,
        variables: Mapping[str, str] | None = None,
        user: str | None = None,
        memory: int | None = None,
    ) -> ModelServer:
        """Start a server of the model, and wait until it is ready unless `wait` is off.

        Args:
            model: its name among the cases of `seatrial_serving`.
            wait: for the first 200 on /ping.
            variables: of the container, beside the contract's own.
            user: as for `docker run --user`; without one, as the image or its confinement says.
            memory: bytes that the container may take.
        """


class RunInImage(Protocol):
    """Run one command in a fresh container of the image, and return how it ended."""

    def __call__(
        self, *command: str, copy: dict[Path, str] | None = None, networked: bool = False
    ) -> CommandOutcome:
        """Run `command` in place of the entry point.

        Args:
            command: program and arguments.
            copy: local folders, and the folders of the container that they are copied to.
            networked: on the network of the services; else without any.
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
def seatrial_case(request: pytest.FixtureRequest) -> TrialCase:
    """The image and the promises that this run of the test is about."""
    found: TrialCase = request.param
    if found.missing:
        pytest.skip(found.missing)
    return found


@pytest.fixture
def seatrial_image(seatrial_trial: TrialSession, seatrial_case: TrialCase) -> ImageUnderTest:
    """The image under test."""
    return seatrial_trial.image(seatrial_case.source)


@pytest.fixture
def seatrial_promised(seatrial_case: TrialCase) -> Promise:
    """The promise that this run of the test is about."""
    return seatrial_case.promises[0]


@pytest.fixture
def seatrial_services(seatrial_servers: ServerPool) -> Services:
    """PostgreSQL and MinIO."""
    if seatrial_servers.services is None:
        pytest.skip("PostgreSQL and MinIO are not there: runs with --stack full")
    return seatrial_servers.services


@pytest.fixture
@uses_server("tracking", shared="direct server")
def seatrial_direct_server(
    seatrial_servers: ServerPool, seatrial_image: ImageUnderTest
) -> MLflowServer:
    """The shared server whose clients reach the artifact store by themselves."""
    return seatrial_servers.shared(seatrial_image, seatrial_servers.direct(seatrial_image))


@pytest.fixture
@uses_server("tracking", shared="embedded server")
def seatrial_embedded_server(
    seatrial_servers: ServerPool, seatrial_image: ImageUnderTest
) -> MLflowServer:
    """The shared server on SQLite and a volume."""
    from seatrial.stack.settings import EMBEDDED

    return seatrial_servers.shared(seatrial_image, EMBEDDED)


@pytest.fixture
@uses_server("tracking", shared="main server")
def seatrial_server(seatrial_servers: ServerPool, seatrial_image: ImageUnderTest) -> MLflowServer:
    """The server that most tests share: artifacts go through it."""
    return seatrial_servers.main(seatrial_image)


@pytest.fixture
def seatrial_main_settings(seatrial_server: MLflowServer) -> ServerSettings:
    """The configuration of the server that most tests share."""
    return seatrial_server.settings


@pytest.fixture
@uses_server("tracking", shared="main server")
def seatrial_postgresql_server(
    seatrial_servers: ServerPool, seatrial_image: ImageUnderTest
) -> MLflowServer:
    """The shared server on PostgreSQL, which may be the one that most tests share."""
    return seatrial_servers.on(seatrial_image, database="postgresql")


@pytest.fixture
@uses_server("tracking", shared="main server")
def seatrial_s3_server(
    seatrial_servers: ServerPool, seatrial_image: ImageUnderTest
) -> MLflowServer:
    """The shared server before S3, which may be the one that most tests share."""
    return seatrial_servers.on(seatrial_image, store="s3")


@pytest.fixture
@uses_server("tracking")
def seatrial_launch(
    seatrial_servers: ServerPool, seatrial_image: ImageUnderTest
) -> Iterator[Launch]:
    """Start servers for this test alone."""
    started: list[MLflowServer] = []

    def start(
        settings: ServerSettings, *, stores: Stores | None = None, wait: bool = True
    ) -> MLflowServer:
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
    from seatrial.stack.run_container import run_in_image

    def run(
        *command: str, copy: dict[Path, str] | None = None, networked: bool = False
    ) -> CommandOutcome:
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
def seatrial_serving(seatrial_run: Run, seatrial_image: ImageUnderTest) -> ModelServers:
    """The models' servers that the image under test stands for."""
    return seatrial_run.serving.of(seatrial_image)


@pytest.fixture
def seatrial_serve(seatrial_serving: ModelServers) -> Iterator[StartServing]:
    """Start models' servers for this test alone."""
    started: list[ModelServer] = []

    def start(
        model: str,
        *,
        wait: bool = True,
        variables: Mapping[str, str] | None = None,
        user: str | None = None,
        memory: int | None = None,
    ) -> ModelServer:
        server = seatrial_serving.launch(model, environment=variables, user=user, memory=memory)
        started.append(server)
        if wait:
            server.wait_ready()
        return server

    yield start
    for server in started:
        server.remove()


@pytest.fixture
def seatrial_new_name(request: pytest.FixtureRequest) -> NewName:
    """Make up names for experiments and models that no other test uses."""
    from seatrial.trial.clients import unique_name

    return lambda: unique_name(request.node.name)


@pytest.fixture
def seatrial_client_for() -> Iterator[ClientFor]:
    """Point MLflow's client, and the fluent API of this process, at a server."""
    from seatrial.trial.clients import connected_client

    with ExitStack() as connected:

        def connect(server: MLflowServer, **variables: str) -> MlflowClient:
            connected.close()
            return connected.enter_context(connected_client(server, variables))

        yield connect


@pytest.fixture
def seatrial_client(seatrial_server: MLflowServer, seatrial_client_for: ClientFor) -> MlflowClient:
    """The MLflow client of `seatrial_server`."""
    return seatrial_client_for(seatrial_server)


@pytest.fixture
def seatrial_direct_client(
    seatrial_direct_server: MLflowServer, seatrial_client_for: ClientFor
) -> MlflowClient:
    """The MLflow client of `seatrial_direct_server`."""
    return seatrial_client_for(seatrial_direct_server)


@pytest.fixture
def seatrial_new_experiment(seatrial_new_name: NewName) -> NewExperiment:
    """Create experiments that are named after the test."""
    return lambda client: str(client.create_experiment(seatrial_new_name()))


@pytest.fixture
def seatrial_new_run(seatrial_new_experiment: NewExperiment) -> NewRun:
    """Create runs, each in an experiment of its own."""
    return lambda client: str(client.create_run(seatrial_new_experiment(client)).info.run_id)


@pytest.fixture
def seatrial_experiment(
    seatrial_client: MlflowClient, seatrial_new_experiment: NewExperiment
) -> str:
    """The id of a fresh experiment, named after the test."""
    return seatrial_new_experiment(seatrial_client)
