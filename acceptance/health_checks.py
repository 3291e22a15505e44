"""Health checks that the engine runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seatrial.engine.machine_speed import MACHINE_SPEED
from seatrial.engine.waiting import until

if TYPE_CHECKING:
    from docker.models.containers import Container

NANOSECONDS = 1_000_000_000
DEFAULT = 30 * NANOSECONDS
"""The engine's default for an interval or a time limit that an image leaves out."""


def wait_healthy(container: Container) -> None:
    """Wait until the engine, which checks once in an interval, reports the container as healthy.

    Raises:
        ContainerError: the container has ended, or two intervals are over.
    """
    check = container.attrs["Config"]["Healthcheck"]
    interval = (check.get("Interval") or DEFAULT) / NANOSECONDS
    timeout = (check.get("Timeout") or DEFAULT) / NANOSECONDS

    def healthy() -> bool:
        return bool(container.attrs["State"]["Health"]["Status"] == "healthy")

    limit = 2 * (interval + timeout) * MACHINE_SPEED.factor
    until(healthy, container=container, action="become healthy", limit=limit, every=1)
