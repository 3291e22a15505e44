"""The server of a model, in a container."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests
from testcontainers.core.container import DockerContainer

from seatrial.stack.confinement import confinement
from seatrial.stack.services import LOOPBACK, published_port
from seatrial.stack.waiting import answers_ok, last_lines, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from docker.models.containers import Container

    from seatrial.stack.ownership import Session
    from seatrial.stack.subject import Subject

MODEL_PATH = "/opt/ml/model"
"""Where every server of MLflow's models looks for its own."""
WORKERS = "MLFLOW_MODELS_WORKERS"


@dataclass(frozen=True)
class ServedImage:
    """What a container is started from."""

    subject: Subject
    """Whose platform and contract they are."""
    reference: str
    volume: str | None = None
    """With the model's folder, where the image holds none."""


@dataclass(frozen=True)
class ModelServer:
    """A running (or ended) server of a model."""

    subject: Subject
    container: Container

    @property
    def url(self) -> str:
        """Where it answers on this host."""
        port = published_port(self.container, self.subject.contract.start.port)
        return f"http://{LOOPBACK}:{port}"

    def wait_ready(self) -> None:
        """Wait for the first 200 on /ping.

        Raises:
            ContainerError: the container ended, or the time limit is over.
        """
        until(
            lambda: answers_ok(f"{self.url}/ping"),
            container=self.container,
            what="answer on /ping",
            limit=self.subject.contract.start.ready_within * self.subject.scale,
        )

    def get(self, path: str) -> requests.Response:
        """GET `path`."""
        return requests.get(f"{self.url}{path}", timeout=30 * self.subject.scale)

    def ask(
        self, body: str | bytes | Iterator[bytes], kind: str = "application/json"
    ) -> requests.Response:
        """POST an input of a content type to /invocations."""
        return requests.post(
            f"{self.url}/invocations",
            data=body,
            headers={"Content-Type": kind},
            timeout=60 * self.subject.scale,
        )

    def logs(self, lines: int = 80) -> str:
        """The container's last log lines."""
        return last_lines(self.container, lines)

    def remove(self) -> None:
        """Remove the container."""
        self.container.remove(force=True, v=True)


def start_model_server(
    image: ServedImage,
    session: Session,
    name: str,
    *,
    workers: int,
    environment: Mapping[str, str] | None = None,
) -> ModelServer:
    """Start a server; it is not waited for.

    Args:
        image: what it is started from; confined where the contract promises that.
        session: whose the container is.
        name: of the container.
        workers: how many processes answer.
        environment: variables beside the contract's own.
    """
    subject = image.subject
    container = DockerContainer(image.reference).with_name(name)
    container.ports = {str(subject.contract.start.port): (LOOPBACK,)}  # type: ignore[dict-item]
    container.with_envs(**subject.environment, **{WORKERS: str(workers)}, **(environment or {}))
    if subject.contract.start.command:
        container.with_command(list(subject.contract.start.command))
    options: dict[str, Any] = {"network": session.network, **confinement(subject)}
    for path in options.pop("tmpfs", {}):
        container.with_tmpfs_mount(path)
    container.with_kwargs(labels=session.labels, platform=subject.platform, **options)
    if image.volume:
        container.with_volume_mapping(image.volume, MODEL_PATH, "ro")
    return ModelServer(subject, container.start().get_wrapped_container())
