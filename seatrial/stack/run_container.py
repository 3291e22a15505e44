"""Run one command: in a fresh container of an image, whatever its entry point is, or in another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from docker.errors import APIError
from testcontainers.core.container import DockerContainer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from docker.models.containers import Container

    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.labels import Session
    from seatrial.stack.server import MLflowServer

TIME_LIMIT = 120
"""Seconds for one command, natively."""


@dataclass(frozen=True)
class CommandOutcome:
    """Exit code of a command, and what it printed on both streams."""

    code: int
    output: str

    def __str__(self) -> str:
        return f"exit code {self.code}:\n{self.output.rstrip()}"


def _network(session: Session, beside: MLflowServer | None, *, networked: bool) -> dict[str, str]:
    if beside:
        return {"network_mode": f"container:{beside.container.id}"}
    return {"network": session.network} if networked else {"network_mode": "none"}


def run_in_container(container: Container, *command: str) -> CommandOutcome:
    """Run `command` in a container that runs, as its own user, and wait for its end."""
    try:
        code, output = container.exec_run(list(command))
    except APIError as error:
        return CommandOutcome(127, str(error.explanation))
    return CommandOutcome(cast("int", code), cast("bytes", output).decode(errors="replace"))


def run_in_image(
    image: ImageUnderTest,
    session: Session,
    command: Sequence[str],
    copy: Mapping[Path, str],
    *,
    networked: bool = False,
    beside: MLflowServer | None = None,
) -> CommandOutcome:
    """Run `command`, and wait for its end.

    Args:
        image: the image under test.
        session: whose the container is.
        command: program and arguments, in place of the entry point.
        copy: local files and folders, and the folders in the container that they are put into.
        networked: on the session's network, where the services are; else without any.
        beside: in the network of this server, which is at `localhost` there.

    Raises:
        requests.exceptions.ConnectionError: the command has not ended in time.
    """
    container = DockerContainer(image.configuration.image_id).with_command(list(command[1:]))
    container.with_envs(**image.environment)
    for file, place in image.overlaid.items():
        container.with_volume_mapping(file, place, "ro")
    container.with_kwargs(
        entrypoint=[command[0]],
        platform=image.platform,
        labels=session.labels,
        **_network(session, beside, networked=networked),
    )
    for source, destination in copy.items():
        container.with_copy_into_container(source, destination)
    try:
        container.start()
        running = container.get_wrapped_container()
        code = running.wait(timeout=TIME_LIMIT * image.scale)["StatusCode"]
        output: bytes = running.logs()
        return CommandOutcome(code, output.decode(errors="replace"))
    except APIError as error:
        return CommandOutcome(127, str(error.explanation))
    finally:
        container.stop()
