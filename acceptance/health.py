"""Health checks, as the engine makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seatrial.stack.waiting import until

if TYPE_CHECKING:
    from docker.models.containers import Container

NANOSECONDS = 1_000_000_000
DEFAULT = 30 * NANOSECONDS
"""The engine's, for what an image leaves out."""


def wait_healthy(container: Container) -> None:
    """Wait until the engine says so: it asks once in an interval.

    Raises:
        ContainerError: the container has ended, or two intervals are over.
    """
    said = container.attrs["Config"]["Healthcheck"]
    interval = (said.get("Interval") or DEFAULT) / NANOSECONDS
    timeout = (said.get("Timeout") or DEFAULT) / NANOSECONDS

    def healthy() -> bool:
        return bool(container.attrs["State"]["Health"]["Status"] == "healthy")

    until(
        healthy, container=container, what="become healthy", limit=2 * (interval + timeout), every=1
    )
