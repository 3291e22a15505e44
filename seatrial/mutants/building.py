"""Building mutants from images that were built before."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from docker.errors import ImageNotFound

from seatrial.build import bake
from seatrial.engine.connection import connect
from seatrial.errors import UserError
from seatrial.mutants.reading import BAKE_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from seatrial.catalogue import Image
    from seatrial.mutants.model import Mutant


def require(images: Iterable[Image]) -> None:
    """See that the images are there that mutants are made from.

    Raises:
        UserError: one is not.
    """
    with closing(connect()) as client:
        for image in images:
            try:
                client.images.get(image.reference)
            except ImageNotFound:
                raise UserError(
                    f"{image.reference} is not there: run `invoke build --variant {image.name}`"
                ) from None


def build(mutants: Sequence[Mutant], console: Console) -> None:
    """Build the mutants into the engine's store.

    Raises:
        UserError: a step failed: a patch, for example, that no longer fits what it changes.
    """
    names = [mutant.name for mutant in mutants]
    bake.run(names, [], {}, builder=None, no_cache=False, console=console, file=BAKE_FILE)
