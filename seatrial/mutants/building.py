"""Building mutants from images that were built before."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from docker.errors import ImageNotFound

from seatrial.build import bake, network
from seatrial.engine.connection import connect
from seatrial.errors import UserError
from seatrial.mutants.reading import BAKE_FILE
from seatrial.project import command, current

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from seatrial.catalogue import Image
    from seatrial.mutants.model import Mutant


_AT_ONCE = 12
"""Targets of one run of bake. It writes all of them into the store at once, and of ninety some gave
up waiting for the others."""


def require(mutants: Iterable[Mutant], variants: Iterable[Image]) -> None:
    """See that the images are there that mutants are made from.

    Raises:
        UserError: one is not.
    """
    needed = {reference for mutant in mutants for reference in mutant.made_from}
    with closing(connect()) as client:
        for image in variants:
            if image.reference not in needed:
                continue
            try:
                client.images.get(image.reference)
            except ImageNotFound:
                build = command(f"build --variant {image.name}")
                raise UserError(f"{image.reference} is not there: run {build}") from None


def build(mutants: Sequence[Mutant], console: Console) -> None:
    """Build the mutants into the engine's store.

    Raises:
        UserError: a step failed: a patch, for example, that no longer fits what it changes.
    """
    names = [mutant.name for mutant in mutants]
    with network.secrets() as variables:
        for start in range(0, len(names), _AT_ONCE):
            bake.run(
                names[start : start + _AT_ONCE],
                [],
                variables,
                builder=None,
                no_cache=False,
                console=console,
                project=current(),
                file=BAKE_FILE,
            )
