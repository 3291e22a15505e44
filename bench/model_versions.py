"""A model in several versions, and its images: of `invoke model`, and MLflow's own.

The images have the measurements' registry: nothing that a person built is replaced.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bench import PROJECT, ROOT, baking, container_script
from bench.baking import REGISTRY
from bench.candidate import require_image
from seatrial.build import docker_cli, record
from seatrial.model.image import LOCKS
from seatrial.trial.model_cases import TRAIN_MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from docker import DockerClient

    from bench.runner import Runner
    from seatrial.model import build_docker
    from seatrial.stack.labels import Session

TRAINER = "model-server"
"""The variant in which the model is made: it holds scikit-learn on the Python of the images."""
_INSIDE = ROOT / "bench" / "inside"
VERSIONS, SCRIPTED = _INSIDE / "versions.py", _INSIDE / "scripted.py"
"""Programs that make the model: a scikit-learn pipeline, or a model that waits on request."""
PLATFORM = "linux/amd64"
"""MLflow builds images for no other."""
ANEW = ROOT / "bench" / "anew.hcl"
"""Makes the steps on top of the environment run, whatever the cache holds."""
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true"}
_STEP = re.compile(r"#(\d+) \[\d+/\d+\] (.+)")
_DONE = re.compile(r"#(\d+) DONE (\d+\.\d+)s")


@dataclass(frozen=True)
class Trained:
    """The model's versions, from 1."""

    folder: Path
    python: str
    """The version of the interpreter that they were made with."""
    body: Mapping[str, Any]
    """A request with one row."""
    predictions: object
    """Predictions of the first version for `body`, as JSON."""

    def version(self, number: int) -> Path:
        """The folder of a version."""
        return self.folder / str(number)


def train(
    client: DockerClient,
    session: Session,
    reference: str,
    interpreter: str,
    target: Path,
    count: int,
    program: Path = VERSIONS,
) -> Trained:
    """Make versions of the model in a container.

    Args:
        client: of the engine.
        session: whose the container is.
        reference: of the image that it is a container of.
        interpreter: the image's Python.
        target: an empty folder, which gets them.
        count: how many.
        program: what makes them.

    Raises:
        UserError: the image is not there, or the model can't be made in it.
    """
    require_image(client, reference)
    place = f"{container_script.FOLDER}/models"
    command = [interpreter, f"{container_script.FOLDER}/{program.name}", place, str(count)]
    with container_script.ended(
        client, session, reference, command, files=(program, TRAIN_MODELS), environment=_QUIET
    ) as (
        container,
        printed,
    ):
        chunks, _ = container.get_archive(place)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        archive.extractall(target, filter="data")
    return Trained(target / "models", **json.loads(printed))


@dataclass(frozen=True)
class Builds:
    """Builds of the model's images by the commands of a user."""

    runner: Runner
    trained: Trained
    base: build_docker.Base
    """Base of MLflow's own image."""

    def seatrial(
        self, version: int, name: str = "seatrial", variables: Mapping[str, str] | None = None
    ) -> float:
        """Build the image of `invoke model`.

        Args:
            version: of the model.
            name: of the image.
            variables: of the environment.

        Returns:
            Seconds of the build alone, from the choice of its bases to the image in the store.
        """
        tag = reference(name, version)
        folder = str(self.trained.version(version))
        words = ["invoke", "model", "--model-uri", folder, "--tag", tag]
        self.runner.run([sys.executable, "-m", *words], {**_QUIET, **(variables or {})})
        return _recorded_seconds(tag)

    def seatrial_anew(self, version: int) -> float:
        """Build the image of `invoke model`, with the environment locked and made anew."""
        folder = PROJECT.state / LOCKS / f"{REGISTRY}_seatrial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # An input of the step that makes the environment: the whole folder is mounted there.
        # With --no-cache, BuildKit would empty the downloads of every other build as well.
        (folder / "moment").write_text(datetime.now(UTC).isoformat(), encoding="utf-8")
        with docker_cli.with_options("--file", str(ANEW)) as variables:
            return self.seatrial(version, variables=variables)

    def mlflow(self, version: int, *options: str) -> str:
        """Build MLflow's own image, with options for `docker build`; return the output."""
        folder, tag = str(self.trained.version(version)), reference("mlflow", version)
        words = ["models", "build-docker", "-m", folder, "-n", tag, "--env-manager", "local"]
        command = [sys.executable, "-m", "mlflow", *words]
        with docker_cli.with_options(*self.base.options, *options) as variables:
            return self.runner.run(command, {**_QUIET, **variables})

    def mlflow_anew(self, version: int) -> dict[str, float]:
        """Build MLflow's own image with every step run.

        Its Dockerfile mounts no caches, so there are none that --no-cache could empty.

        Returns:
            Seconds of each step.
        """
        return steps(self.mlflow(version, "--no-cache"))


def reference(name: str, version: int) -> str:
    """Name an image that a measurement builds."""
    return f"{REGISTRY}/{name}:{version}"


def steps(output: str) -> dict[str, float]:
    """Read from the output of a build how long each of its steps took, in seconds."""
    names = dict(_STEP.findall(output))
    return {names[number]: float(took) for number, took in _DONE.findall(output) if number in names}


def remove() -> None:
    """Remove the built images and their locks."""
    baking.remove_images()
    for folder in (PROJECT.state / LOCKS).glob(f"{REGISTRY}_*"):
        shutil.rmtree(folder)


def _recorded_seconds(tag: str) -> float:
    """Read how long the newest build of an image took."""
    for document in record.newest_first():
        if any(image["reference"] == tag for image in document["images"]):
            return float(document["seconds"])
    msg = f"`invoke model` leaves a record of what it builds, and there is none of {tag}"
    raise LookupError(msg)
