"""Build a commit twice, the second time with nothing of the first, and compare the digests."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from reproducible import differences
from reproducible.differences import ImageSide
from seatrial import catalogue
from seatrial.build import build, revision, store
from seatrial.build.builder import find
from seatrial.console import make_console
from seatrial.engine import connection
from seatrial.errors import UserError, printable
from seatrial.project import current

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reproducible.differences import Difference
    from seatrial.build.store import StoredImage

SHIPPED = ("custom", "hardened", "slim", "hardened-dev", "model-server")
REGISTRIES = ("seatrial-reproducible/first", "seatrial-reproducible/second")
"""Nothing that a person has built is replaced."""
_SHOWN = 40
"""Differences of an image on one platform; the first one says most."""


def run(arguments: Sequence[str]) -> int:
    """Build, compare, show.

    Args:
        arguments: of the command line, without the program.

    Returns:
        0 where the digests of each platform agree, else 1.

    Raises:
        UserError: an option is wrong, or a build failed.
    """
    parser = argparse.ArgumentParser(prog="nox -s reproducible --", description=__doc__)
    parser.add_argument("variant", nargs="*", help="of the catalogue; all that are shipped without")
    parser.add_argument("--platform", default="all", help="native, amd64, arm64 or all")
    asked = parser.parse_args(arguments)
    if revision.of(current()).commit.endswith("-dirty"):
        raise UserError("commit first: what differs from a commit is built with the time of now")
    names = asked.variant or SHIPPED
    platforms = connection.resolve_platforms(asked.platform)
    first, second = (
        _build(registry, names, platforms, anew=registry is REGISTRIES[1])
        for registry in REGISTRIES
    )
    table = Table("variant", "platform", "first build", "second build, nothing cached")
    found: dict[str, list[Difference]] = {}
    try:
        for name in names:
            for platform in platforms:
                sides = [_side(images[name], platform) for images in (first, second)]
                differ = differences.of(*sides)
                colour = "red" if differ else "green"
                digests = (Text(side.stored.digest[7:19], colour) for side in sides)
                table.add_row(name, platform, *digests)
                if differ:
                    found[f"{name} for {platform}"] = differ
    finally:
        _remove([image.reference for images in (first, second) for image in images.values()])
    console = make_console()
    console.print(table)
    for name, differ in found.items():
        console.print(Text(f"{name} differs in {len(differ)} places:"))
        for one in differ[:_SHOWN]:
            console.print(Text(printable(f"  {one.place}: {one.first} / {one.second}")))
    return int(bool(found))


def _build(
    registry: str, names: Sequence[str], platforms: Sequence[str], *, anew: bool
) -> dict[str, StoredImage]:
    host = find(None)
    chosen = catalogue.load({"REGISTRY": registry}, {"BUILD_PLATFORM": host.platform})
    images = [chosen.variant(name) for name in names]
    order = build.Order(
        chosen=chosen, images=images, platforms=platforms, host=host, no_cache=anew, weigh=False
    )
    with build.report_full_disk():
        build.make(order)
    found = {image.name: store.read(image.reference) for image in images}
    return {name: image for name, image in found.items() if image}


def _side(image: StoredImage, platform: str) -> ImageSide:
    stored = image.platform(platform)
    if stored is None:
        raise UserError(f"{image.reference} was not built for {platform}")
    return ImageSide(image.reference, stored)


def _remove(references: Sequence[str]) -> None:
    with closing(connection.connect()) as client:
        for reference in references:
            client.images.remove(reference)
