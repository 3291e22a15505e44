"""Images of models that MLflow's own commands make in the image under test.

test_serving.py tests the predictions of such images.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import pytest
import requests
from testcontainers.core.container import DockerContainer

from seatrial.backends.base import DATA_PATH, VOLUME_PATH
from seatrial.build import docker_cli
from seatrial.console import make_console
from seatrial.contract import MLFLOW_MODEL_CONTRACT, load
from seatrial.engine import connection, registries
from seatrial.model import build_docker
from seatrial.stack.confinement import CONFINED_USER
from seatrial.stack.model_server import ModelServer, ServedImage, start_model_server
from seatrial.stack.server import prepare_files

from .models import DOUBLING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from seatrial.contract import Promise
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.workspace import Workspace
    from seatrial.trial.pool import ServerPool
    from seatrial.trial.session import TrialSession


AGNOSTIC, INSIDE = "agnostic", "inside"
MODEL = f"{DATA_PATH}/model"
NUMBERS = [1, 2.5, -4, 0.1]
SOCKET = "/var/run/docker.sock"
"""The engine's socket, where a docker client looks for it."""
WRAPPER = "/wrapper"
"""The folder of a docker client that builds on the stand-in for Python's image."""
BUILD_LIMIT = 900
"""Seconds for MLflow's own build; without a cache it took 79 s."""
INSTALL_LIMIT = 1200
"""Seconds until the first answer of a container that installs the model's environment first."""

# The model needs nothing beside MLflow, and its python_env.yaml has the image's own Python.
SAVE_A_MODEL = """
import pathlib, platform, sys, mlflow
pathlib.Path("doubling.py").write_text(sys.argv[1])
mlflow.pyfunc.save_model(
    "model", loader_module="doubling", code_paths=["doubling.py"], pip_requirements=["mlflow"]
)
print(platform.python_version())
"""


@dataclass(frozen=True)
class Model:
    """A model that the image under test has saved in its workspace."""

    workspace: Workspace
    python: str
    """The version of Python that it was saved with."""

    def generate(self, target: Path, *options: str) -> str:
        """Have the image write a Dockerfile; copy it here with what it needs, and return it."""
        command = ("models", "generate-dockerfile", "--output-directory", "out", *options)
        work = self.workspace.mlflow(*command)
        assert work.code == 0, f"in the image, `mlflow {' '.join(command)}` ended with {work}"
        for name, content in self.workspace.files("out").items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return (target / "Dockerfile").read_text(encoding="utf-8")


class Serve(Protocol):
    """Start a server of the image that the test makes; it is removed when the test ends."""

    def __call__(self, *, volume: str | None = None, limit: int | None = None) -> ModelServer:
        """Start the image `tag` and wait until it is ready, `limit` seconds at most."""


@pytest.fixture
def model(workspace: Workspace) -> Model:
    """A model that the image under test has made."""
    work = workspace.python(SAVE_A_MODEL, DOUBLING)
    assert work.code == 0, f"the image's Python can't save a model: {work}"
    return Model(workspace, work.printed.split()[-1])


@pytest.fixture
def tag(trial: TrialSession) -> str:
    """A reference for the image that the test makes; the image is removed with the trial."""
    return trial.image_tag("built")


@pytest.fixture
def serve(
    trial: TrialSession, servers: ServerPool, image: ImageUnderTest, tag: str
) -> Iterator[Serve]:
    """Start servers from the image that the test makes."""
    started: list[ModelServer] = []

    def start(*, volume: str | None = None, limit: int | None = None) -> ModelServer:
        contract = load(MLFLOW_MODEL_CONTRACT)
        if limit:
            start_limited = contract.start.model_copy(update={"ready_within": limit})
            contract = contract.model_copy(update={"start": start_limited})
        served = ServedImage(replace(image, contract=contract), tag, volume)
        server = start_model_server(served, trial.session, trial.fresh_name("built"), workers=1)
        started.append(server)
        servers.touch(server)
        server.wait_ready()
        return server

    yield start
    for server in started:
        server.remove()


def require_base(reference: str, trial: TrialSession) -> build_docker.Base | None:
    """Find the base of a Dockerfile, if that is Python's image; skip where there is no base."""
    if match := re.fullmatch(r"python:(.+)-slim", reference):
        try:
            base = build_docker.find_base(match[1], trial.stand_in, make_console())
        except build_docker.NoBaseError as missing:
            pytest.skip(str(missing))
        make_console().print(f"{base.reference} {base.digest}, stand-in: {base.stand_in or 'none'}")
        return base
    if not (trial.client.images.list(reference) or registries.resolve(reference)):
        pytest.skip(f"no registry answers that would give {reference}: runs where one does")
    return None


def require_sources(dockerfile: str) -> None:
    """Skip where a build could not reach the downloads of its Dockerfile."""
    steps = "\n".join(line for line in dockerfile.splitlines() if not line.startswith("#"))
    for url in dict.fromkeys(re.findall(r"https?://[^\s)\"']+", steps)):
        try:
            requests.head(url, timeout=10, allow_redirects=True).raise_for_status()
        except requests.RequestException as error:
            pytest.skip(f"{url} does not answer ({type(error).__name__}): runs where it does")


@dataclass(frozen=True)
class ModelImageBuilder:
    """Builds an image of the model."""

    model: Model
    tag: str
    trial: TrialSession
    image: ImageUnderTest
    folder: Path
    """A folder of this host for Dockerfiles."""

    def build_outside(self, manager: str) -> None:
        """Have a Dockerfile written by the image, and build it on this host."""
        options = ("--model-uri", MODEL, "--env-manager", manager)
        dockerfile = self.model.generate(self.folder, *(() if manager == AGNOSTIC else options))
        base = re.search(r"^FROM (\S+)", dockerfile, re.MULTILINE)
        assert base, f"what the image's MLflow wrote as a Dockerfile has no FROM:\n{dockerfile}"
        if manager == "local":
            wanted = f"python:{self.model.python}-slim"
            assert base[1] == wanted, (
                f"the Dockerfile that the image's MLflow wrote begins with {base[1]};"
                f" the model's Python is in {wanted}"
            )
        found = require_base(base[1], self.trial)
        require_sources(dockerfile)
        build_docker.build_generated(self.folder, self.tag, self.trial.session.labels, found)

    def build_inside(self) -> None:
        """Follow the guide: `docker run ... mlflow models build-docker`, with the socket."""
        endpoint = connection.endpoint()
        assert endpoint.socket, (
            "the engine has no socket on this machine, which `mlflow models build-docker` needs"
        )
        base = require_base(f"python:{self.model.python}-slim", self.trial)
        command = ["models", "build-docker", "-m", MODEL, "-n", self.tag, "--env-manager", "local"]
        builder = (
            DockerContainer(self.image.configuration.image_id)
            .with_command([*self.image.mlflow_command, *command])
            .with_volume_mapping(str(endpoint.socket), SOCKET, "rw")
            .with_volume_mapping(self.model.workspace.volume, VOLUME_PATH, "ro")
            # The client writes to its home. Root would need neither that nor the socket's group.
            .with_env("HOME", "/tmp")
            .with_kwargs(
                group_add=[endpoint.socket.stat().st_gid],
                user=CONFINED_USER,
                labels=self.trial.session.labels,
                network_mode="none",
                platform=self.image.platform,
            )
        )
        if base and base.options:
            path = self.image.configuration.environment["PATH"]
            builder.with_env("PATH", f"{WRAPPER}:{path}").with_copy_into_container(
                docker_cli.wrapper(base.options).encode(), f"{WRAPPER}/{docker_cli.NAME}", 0o755
            )
        with builder:
            running = builder.get_wrapped_container()
            code = running.wait(timeout=BUILD_LIMIT * self.image.scale)["StatusCode"]
            log = running.logs().decode(errors="replace")
        end = f"in the image, `mlflow {' '.join(command)}` ended with exit code {code}"
        assert code == 0, f"{end}: {build_docker.cause(log.splitlines())}\n{log}"
        assert self.trial.client.images.list(self.tag), (
            f"{end}, and there is no image {self.tag}:\n{log}"
        )

    def put_on_volume(self) -> str:
        """Make a volume with nothing but the model's folder."""
        volume = self.trial.fresh_name("model")
        saved = self.model.workspace.files("model")
        prepare_files(self.trial.client, self.trial.session, self.image, volume, saved)
        return volume


@pytest.fixture
def builder(
    model: Model, tag: str, trial: TrialSession, image: ImageUnderTest, tmp_path: Path
) -> ModelImageBuilder:
    """Build an image of the model, by the image under test or with its Dockerfile."""
    return ModelImageBuilder(model, tag, trial, image, tmp_path)


@pytest.mark.promise("command_line.builds_models")
def test_image_serves_the_model(
    promised: Promise, builder: ModelImageBuilder, serve: Serve
) -> None:
    """The image predicts, whether it was built inside or outside, with or without the model."""
    build = str(promised.item)
    if build == INSIDE:
        builder.build_inside()
    else:
        builder.build_outside(build)
    frame = {"columns": ["x"], "data": [[number] for number in NUMBERS]}

    if build == AGNOSTIC:
        server = serve(volume=builder.put_on_volume(), limit=INSTALL_LIMIT)
    else:
        server = serve()
    answer = server.ask(json.dumps({"dataframe_split": frame}))

    assert answer.ok, (
        f"the server of the image that MLflow built answers an input with {answer.status_code}:"
        f" {answer.text[:500]}"
    )
    predictions = answer.json().get("predictions")
    expected = [2 * number for number in NUMBERS]
    assert predictions == expected, (
        f"the server of the image that MLflow built predicts {predictions} instead of {expected}"
    )
