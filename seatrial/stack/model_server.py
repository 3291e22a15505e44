"""The server of a model, in a container."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests

from seatrial.stack.confinement import confinement
from seatrial.stack.running_server import ImageContainer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from docker.models.containers import Container

    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.labels import Session

MODEL_PATH = "/opt/ml/model"
"""Path at which every server of MLflow's models looks for its own."""
WORKERS = "MLFLOW_MODELS_WORKERS"


@dataclass(frozen=True)
class ServedImage:
    """Image, and volume, that a container is started from."""

    image: ImageUnderTest
    """Whose platform and contract they are."""
    reference: str
    volume: str | None = None
    """Volume with the model's folder, where the image holds none."""


@dataclass(frozen=True)
class ModelServer(RunningServer):
    """A running (or ended) server of a model."""

    image: ImageUnderTest
    container: Container

    def wait_ready(self) -> None:
        """Wait for the first 200 on /ping.

        Raises:
            ContainerError: the container ended, or the time limit is over.
        """
        self.wait_for("/ping")

    def ask(
        self, body: str | bytes | Iterator[bytes], content_type: str = "application/json"
    ) -> requests.Response:
        """POST an input of a content type to /invocations."""
        return requests.post(
            f"{self.url}/invocations",
            data=body,
            headers={"Content-Type": content_type},
            timeout=60 * self.image.scale,
        )


def start_model_server(
    served: ServedImage,
    session: Session,
    name: str,
    *,
    workers: int,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    memory: int | None = None,
    command: Sequence[str] = (),
) -> ModelServer:
    """Start a server; it is not waited for.

    Args:
        served: what it is started from; confined where the contract promises that.
        session: whose the container is.
        name: of the container.
        workers: how many processes answer.
        environment: variables beside the contract's own.
        user: as whom it runs; without one, as the image or its confinement says.
        memory: bytes that its processes may take together, without swap.
        command: arguments in place of the contract's.
    """
    image = served.image
    container = ImageContainer(
        image,
        session,
        name,
        command or image.contract.start.command or (),
        reference=served.reference,
        network=session.network,
        **(confinement(image) | ({"user": user} if user else {})),
        **({"mem_limit": memory, "memswap_limit": memory} if memory else {}),
    ).with_envs(**{WORKERS: str(workers)}, **(environment or {}))
    if served.volume:
        container.with_volume_mapping(served.volume, MODEL_PATH, "ro")
    return ModelServer(image, container.start().get_wrapped_container())
