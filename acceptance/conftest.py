"""Short names for the fixtures of the trial, and fixtures that only the acceptance tests need."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

    from seatrial.contract import Promise
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.model_server import ModelServer
    from seatrial.stack.server import MLflowServer, Stores
    from seatrial.stack.services import Services
    from seatrial.stack.settings import ServerSettings
    from seatrial.stack.workspace import Workspace
    from seatrial.trial.fixtures import (
        ClientFor,
        Launch,
        NewExperiment,
        NewName,
        NewRun,
        RunInImage,
        StartServing,
    )
    from seatrial.trial.model_serving import ModelServers
    from seatrial.trial.pool import ServerPool
    from seatrial.trial.session import TrialSession

    from .factories import LaunchMain, NewStores
    from .private_postgresql import PrivatePostgreSQL
    from .serving import ServedSample, StartServer


@pytest.fixture(scope="session")
def trial(seatrial_trial: TrialSession) -> TrialSession:
    """The run: its options, its images, and the engine."""
    return seatrial_trial


@pytest.fixture(scope="session")
def servers(seatrial_servers: ServerPool) -> ServerPool:
    """The servers and services of the run."""
    return seatrial_servers


@pytest.fixture
def image(seatrial_image: ImageUnderTest) -> ImageUnderTest:
    """The image under test."""
    return seatrial_image


@pytest.fixture
def promised(seatrial_promised: Promise) -> Promise:
    """The promise that this run of the test is about."""
    return seatrial_promised


@pytest.fixture
def promised_number(promised: Promise) -> int:
    """The number that the image promises: seconds, bytes, connections, replicas."""
    return int(str(promised.value))


@pytest.fixture
def services(seatrial_services: Services) -> Services:
    """PostgreSQL and MinIO."""
    return seatrial_services


@pytest.fixture
def direct_server(seatrial_direct_server: MLflowServer) -> MLflowServer:
    """The shared server whose clients reach the artifact store by themselves."""
    return seatrial_direct_server


@pytest.fixture
def embedded_server(seatrial_embedded_server: MLflowServer) -> MLflowServer:
    """The shared server on SQLite and a volume."""
    return seatrial_embedded_server


@pytest.fixture
def server(seatrial_server: MLflowServer) -> MLflowServer:
    """The server that most tests share: artifacts go through it."""
    return seatrial_server


@pytest.fixture
def main_settings(seatrial_main_settings: ServerSettings) -> ServerSettings:
    """The configuration of the server that most tests share."""
    return seatrial_main_settings


@pytest.fixture
def postgresql_server(seatrial_postgresql_server: MLflowServer) -> MLflowServer:
    """The shared server on PostgreSQL, which may be the one that most tests share."""
    return seatrial_postgresql_server


@pytest.fixture
def s3_server(seatrial_s3_server: MLflowServer) -> MLflowServer:
    """The shared server before S3, which may be the one that most tests share."""
    return seatrial_s3_server


@pytest.fixture
def launch(seatrial_launch: Launch) -> Launch:
    """Start servers for this test alone."""
    return seatrial_launch


@pytest.fixture
def launch_main(launch: Launch, main_settings: ServerSettings) -> LaunchMain:
    """Start servers, for this test alone, with changes to the shared server's configuration."""

    def start(*, stores: Stores | None = None, wait: bool = True, **changes: Any) -> MLflowServer:
        return launch(replace(main_settings, **changes), stores=stores, wait=wait)

    return start


@pytest.fixture
def new_stores(servers: ServerPool, image: ImageUnderTest) -> NewStores:
    """Make a fresh database and a fresh bucket, or a volume."""
    return partial(servers.fresh_stores, image)


@pytest.fixture
def run_in_image(seatrial_run_in_image: RunInImage) -> RunInImage:
    """Run one command in the image."""
    return seatrial_run_in_image


@pytest.fixture
def workspace(seatrial_workspace: Workspace) -> Workspace:
    """A folder of this test alone, in which the image's own programs work."""
    return seatrial_workspace


@pytest.fixture
def serving(seatrial_serving: ModelServers) -> ModelServers:
    """The models' servers that the image under test stands for."""
    return seatrial_serving


@pytest.fixture
def serve(seatrial_serve: StartServing) -> StartServing:
    """Start models' servers for this test alone."""
    return seatrial_serve


@pytest.fixture
def client_for(seatrial_client_for: ClientFor) -> ClientFor:
    """Point MLflow's client, and the fluent API of this process, at a server."""
    return seatrial_client_for


@pytest.fixture
def client(seatrial_client: MlflowClient) -> MlflowClient:
    """The MLflow client of `server`."""
    return seatrial_client


@pytest.fixture
def experiment(seatrial_experiment: str) -> str:
    """The id of a fresh experiment, named after the test."""
    return seatrial_experiment


@pytest.fixture
def direct_client(seatrial_direct_client: MlflowClient) -> MlflowClient:
    """The MLflow client of `direct_server`."""
    return seatrial_direct_client


@pytest.fixture
def new_name(seatrial_new_name: NewName) -> NewName:
    """Make up names for experiments and models that no other test uses."""
    return seatrial_new_name


@pytest.fixture
def new_experiment(seatrial_new_experiment: NewExperiment) -> NewExperiment:
    """Create experiments that are named after the test."""
    return seatrial_new_experiment


@pytest.fixture
def new_run(seatrial_new_run: NewRun) -> NewRun:
    """Create runs, each in an experiment of its own."""
    return seatrial_new_run


@pytest.fixture
def private_postgresql(trial: TrialSession, servers: ServerPool) -> Iterator[PrivatePostgreSQL]:
    """A PostgreSQL of this test alone, which the test starts, and may freeze or kill."""
    from .private_postgresql import PrivatePostgreSQL

    database = PrivatePostgreSQL(trial, servers)
    yield database
    database.remove()


@pytest.fixture
def sample(serving: ModelServers) -> ServedSample:
    """A model that the image under test serves, and an input of the model."""
    from .serving import sample_of

    return sample_of(serving)


@pytest.fixture
def sample_server(serving: ModelServers, sample: ServedSample) -> ModelServer:
    """The server of the sample's model that tests share."""
    return serving.server(sample.model)


@pytest.fixture
def serve_sample(serve: StartServing, sample: ServedSample) -> StartServer:
    """Start servers of the sample's model for this test alone."""
    return partial(serve, sample.model)


@pytest.fixture
def scriptable_server(serving: ModelServers) -> ModelServer:
    """The server that tests share of the model that fails and waits when an input tells it to."""
    from .serving import require_scriptable

    return serving.server(require_scriptable(serving))


@pytest.fixture
def serve_scriptable(serving: ModelServers, serve: StartServing) -> StartServer:
    """Start servers, for this test alone, of the model that fails and waits when told to."""
    from .serving import require_scriptable

    return partial(serve, require_scriptable(serving))
