"""Tables for people: what a build made, and what the catalogue holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from seatrial import catalogue
from seatrial.build import store
from seatrial.engine import connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seatrial.build.record import Made
    from seatrial.catalogue import Image

_MEGABYTE = 1_000_000
_SHORT = len("sha256:") + 12


def of_build(made: Sequence[Made], seconds: float) -> Table:
    """Show what a build made."""
    table = Table(title=f"built in {seconds:.0f} s", title_justify="left")
    for column in ("variant", "platform", "size", "digest", "seconds", "cached"):
        table.add_column(column, justify="right" if column in {"size", "seconds"} else "left")
    for each in made:
        name = f"{each.name} (stand-in)" if each.stand_in else each.name
        digest = (each.digest or each.index)[:_SHORT]
        cached = "yes" if each.cached else "no"
        table.add_row(name, each.platform, _size(each.size), digest, f"{each.seconds:.1f}", cached)
    return table


def show() -> None:
    """Print the catalogue, with what of it is in the engine's store (`invoke catalogue`)."""
    chosen = catalogue.load({}, {"BUILD_PLATFORM": connection.native_platform()})
    table = Table(title="the catalogue", title_justify="left")
    for column in ("name", "kind", "reference", "platform", "size", "digest", "revision"):
        table.add_column(column, justify="right" if column == "size" else "left")
    for kind, images in (("variant", chosen.variants), ("service", chosen.services)):
        for image in images.values():
            for row in _rows(image):
                table.add_row(image.name, kind, image.reference, *row)
    Console().print(table)


def _rows(image: Image) -> list[tuple[str, str, str, str]]:
    stored = store.read(image.reference)
    rows = []
    for platform in image.platforms:
        entry = stored.platform(platform) if stored else None
        if entry is None:
            rows.append((platform, "not built", "", ""))
            continue
        revision = entry.labels.get("org.opencontainers.image.revision", "")
        commit, _, dirty = revision.partition("-")
        shown = f"{commit[:12]}-{dirty}" if dirty else commit[:12]
        rows.append((platform, _size(entry.size), entry.digest[:_SHORT], shown))
    return rows


def _size(size: int) -> str:
    return f"{size / _MEGABYTE:.0f} MB" if size else ""
