"""Tables for people: what a build made, and what the catalogue holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from seatrial import catalogue
from seatrial.build import store
from seatrial.console import make_console
from seatrial.contract import load, promises_of
from seatrial.engine import connection
from seatrial.project import current

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import JustifyMethod

    from seatrial.build.record import Made
    from seatrial.catalogue import Image

_MEGABYTE = 1_000_000


def of_build(made: Sequence[Made], seconds: float) -> Table:
    """Make the table of a build's results."""
    table = Table(title=f"built in {seconds:.0f} s", title_justify="left")
    for column in ("variant", "platform", "size", "digest", "seconds", "cached"):
        _column(table, column)
    for entry in made:
        digest = _short(entry.digest or entry.index)
        cached = "yes" if entry.cached else "no"
        table.add_row(
            entry.name, entry.platform, _size(entry.size), digest, f"{entry.seconds:.1f}", cached
        )
    return table


def show() -> None:
    """Print the catalogue, with what of it is in the engine's store (`invoke catalogue`)."""
    current().require_bake_file()
    chosen = catalogue.load({}, {"BUILD_PLATFORM": connection.native_platform()})
    table = Table(title="the catalogue", title_justify="left")
    for column in ("name", "reference", "platform", "size", "digest", "revision", "promises"):
        _column(table, column)
    for image in (*chosen.variants.values(), *chosen.services.values()):
        promises = str(len(promises_of(load(image.contract)))) if image.contract.is_file() else ""
        for row in _rows(image):
            table.add_row(image.name, image.reference, *row, promises)
    make_console().print(table)


def _column(table: Table, name: str) -> None:
    # A digest or a reference that is cut off can be copied nowhere.
    justify: JustifyMethod = "right" if name in {"size", "seconds", "promises"} else "left"
    table.add_column(name, justify=justify, no_wrap=True, overflow="fold")


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
        rows.append((platform, _size(entry.size), _short(entry.digest), shown))
    return rows


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _size(size: int) -> str:
    return f"{size / _MEGABYTE:.0f} MB" if size else ""
