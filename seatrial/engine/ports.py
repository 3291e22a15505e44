"""Ports of containers, as this host reaches them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seatrial.engine.waiting import ContainerError, last_lines, require_not_ended

if TYPE_CHECKING:
    from docker.models.containers import Container

LOOPBACK = "127.0.0.1"


def published_port(container: Container, port: int) -> int:
    """The loopback port that `port` of the container is published on; it changes with a restart.

    Raises:
        ContainerError: there is none, or the container has ended.
    """
    require_not_ended(container, f"be asked on its port {port}")
    bindings = container.ports.get(f"{port}/tcp")
    if not bindings:
        raise ContainerError(
            f"{container.name} ({container.status}) publishes no port for its {port}",
            last_lines(container),
        )
    return int(bindings[0]["HostPort"])
