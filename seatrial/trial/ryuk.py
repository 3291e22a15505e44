"""Testcontainers' reaper, Ryuk: used where its image is to be had.

Where it is not, `seatrial.stack.labels` does its work at the next run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testcontainers.core.config import testcontainers_config

if TYPE_CHECKING:
    from docker import DockerClient


def configure(client: DockerClient) -> None:
    """Turn Ryuk off unless the engine has its image.

    Only the engine's own store counts: to ask a registry at every start would cost seconds where
    none answers, and a `docker pull` of the image is all it takes.
    """
    if not client.images.list(testcontainers_config.ryuk_image):
        testcontainers_config.ryuk_disabled = True
