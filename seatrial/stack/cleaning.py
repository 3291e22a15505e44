"""`invoke clean`: remove what Seatrial made, and nothing else."""

from __future__ import annotations

import re
from contextlib import closing

from docker.errors import ImageNotFound

from seatrial.console import make_console
from seatrial.engine.connection import connect
from seatrial.stack.labels import remove_all

IMAGE_LABEL = "io.seatrial.image"
"""Carried by every image that the catalogue builds."""
STAND_IN = "python-slim"
"""The base that MLflow's own images of models are built on."""
_STAND_INS = re.compile(r".*/python-slim:latest|python:[0-9.]+-slim")


def run() -> None:
    """Remove every container, network, volume and image of Seatrial, and say what that was.

    Raises:
        UserError: no engine answers.
    """
    console = make_console()
    with closing(connect()) as client:
        removed = remove_all(client)
        for image in client.images.list(all=True, filters={"label": IMAGE_LABEL}):
            names = image.tags or [str(image.id)]
            if image.labels[IMAGE_LABEL] == STAND_IN:
                # Images that a person built on it have its labels.
                names = [name for name in names if _STAND_INS.fullmatch(name)]
            # Every name of it goes; one that somebody else gave it as well.
            for name in names:
                try:
                    client.images.remove(name, force=True)
                except ImageNotFound:
                    continue
                removed.append(f"image {name}")
    for name in removed:
        console.print(f"removed {name}", highlight=False, markup=False)
    console.print(f"{len(removed)} removed" if removed else "nothing to remove")
