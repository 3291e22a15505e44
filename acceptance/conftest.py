"""Short names for the fixtures of the trial, which these tests alone use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from seatrial.contract import Promise
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.server import Server
    from seatrial.stack.services import ServiceAddresses
    from seatrial.stack.settings import ServerSettings
    from seatrial.stack.workspace import Workspace
    from seatrial.trial.fixtures import Launch, RunInImage, StartServing
    from seatrial.trial.model_serving import Serving
    from seatrial.trial.pool import ServerPool
    from seatrial.trial.session import TrialSession


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
    """The one promise that this run of the test is about."""
    return seatrial_promised


@pytest.fixture
def services(seatrial_services: ServiceAddresses) -> ServiceAddresses:
    """PostgreSQL and MinIO."""
    return seatrial_services


@pytest.fixture
def direct_server(seatrial_direct_server: Server) -> Server:
    """The shared server whose clients reach the artifact store by themselves."""
    return seatrial_direct_server


@pytest.fixture
def embedded_server(seatrial_embedded_server: Server) -> Server:
    """The shared server on SQLite and a volume."""
    return seatrial_embedded_server


@pytest.fixture
def server(seatrial_server: Server) -> Server:
    """The server that most tests share: artifacts go through it."""
    return seatrial_server


@pytest.fixture
def main_settings(seatrial_main_settings: ServerSettings) -> ServerSettings:
    """The configuration of the server that most tests share."""
    return seatrial_main_settings


@pytest.fixture
def postgresql_server(seatrial_postgresql_server: Server) -> Server:
    """The shared server on PostgreSQL, which may be the one that most tests share."""
    return seatrial_postgresql_server


@pytest.fixture
def s3_server(seatrial_s3_server: Server) -> Server:
    """The shared server before S3, which may be the one that most tests share."""
    return seatrial_s3_server


@pytest.fixture
def launch(seatrial_launch: Launch) -> Launch:
    """Start servers for this test alone."""
    return seatrial_launch


@pytest.fixture
def run_in_image(seatrial_run_in_image: RunInImage) -> RunInImage:
    """Run one command in the image."""
    return seatrial_run_in_image


@pytest.fixture
def workspace(seatrial_workspace: Workspace) -> Workspace:
    """A folder of this test alone, for the image's own programs to work in."""
    return seatrial_workspace


@pytest.fixture
def serving(seatrial_serving: Serving) -> Serving:
    """The models' servers that the image under test stands for."""
    return seatrial_serving


@pytest.fixture
def serve(seatrial_serve: StartServing) -> StartServing:
    """Start models' servers for this test alone."""
    return seatrial_serve


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
