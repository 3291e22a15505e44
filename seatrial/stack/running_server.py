"""Base of every server under test, whether it is MLflow's own or a model's."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any

import requests
from docker.types import Ulimit
from testcontainers.core.container import DockerContainer

from seatrial.engine.ports import LOOPBACK, published_port
from seatrial.engine.waiting import answers_ok, last_lines, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docker.models.containers import Container

    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.labels import Session


SOFT_FILES, HARD_FILES = 1024, 524_288
"""Open files that a process may have: what current engines and systemd give a container, so that a
server that does not raise its own limit fails here as it would elsewhere."""


class ImageContainer(DockerContainer):
    """The container of one server, not yet started: its port is published on loopback."""

    def __init__(
        self,
        image: ImageUnderTest,
        session: Session,
        name: str,
        command: Sequence[str],
        *,
        reference: str = "",
        **options: Any,  # noqa: ANN401
    ) -> None:
        """Describe it.

        Args:
            image: the image under test.
            session: whose the container is.
            name: of the container.
            command: none for the image's own.
            reference: of an image that stands for the one under test.
            options: for the engine; `tmpfs` names paths.
        """
        super().__init__(reference or image.configuration.image_id)
        self.ports = {str(image.contract.start.port): (LOOPBACK,)}  # type: ignore[dict-item]
        if command:
            self.with_command(list(command))
        self.with_name(name)
        self.with_envs(**image.environment)
        for file, place in image.overlaid.items():
            self.with_volume_mapping(file, place, "ro")
        for path in options.pop("tmpfs", {}):
            self.with_tmpfs_mount(path)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        hard = HARD_FILES if most == resource.RLIM_INFINITY else min(HARD_FILES, most)
        self.with_kwargs(
            labels=session.labels,
            platform=image.platform,
            ulimits=[Ulimit(name="nofile", soft=SOFT_FILES, hard=hard)],
            **options,
        )


class RunningServer:
    """A server in a container, running or ended."""

    image: ImageUnderTest
    container: Container

    @property
    def url(self) -> str:
        """URL at which it answers on this host."""
        port = published_port(self.container, self.image.contract.start.port)
        return f"http://{LOOPBACK}:{port}"

    def wait_for(self, path: str) -> None:
        """Wait for the first 200 on `path`.

        Raises:
            ContainerError: the container ended, or the time limit is over.
        """
        until(
            lambda: answers_ok(f"{self.url}{path}"),
            container=self.container,
            action=f"answer on {path}",
            limit=self.image.contract.start.ready_within * self.image.scale,
        )

    def get(self, path: str, **options: Any) -> requests.Response:  # noqa: ANN401
        """GET `path` of the server."""
        return requests.get(f"{self.url}{path}", timeout=30 * self.image.scale, **options)

    def logs(self, lines: int = 80, *, since: float | None = None) -> str:
        """The container's last log lines, of those since a time (in seconds of the epoch)."""
        return last_lines(self.container, lines, since=since)

    def remove(self) -> None:
        """Remove the container; its stores stay."""
        self.container.remove(force=True, v=True)
