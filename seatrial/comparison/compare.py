"""`invoke compare`: what has changed from one image to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from seatrial import files
from seatrial.comparison import rendering, sides
from seatrial.comparison.model import Change, Comparison, LayerChange, Side
from seatrial.engine import connection
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seatrial.comparison.sides import ComparedImage

FORMATS = ("text", "json", "markdown")


def run(
    old: str, new: str, *, platform: str, old_contract: str, new_contract: str, form: str, out: str
) -> None:
    """Compare two images of the engine's store, or of qualification records.

    Args:
        old: a reference, or a record's file.
        new: the same of the other.
        platform: native, amd64 or arm64.
        old_contract: the contract of the first; empty for its variant's, or for none.
        new_contract: of the second.
        form: one of `FORMATS`.
        out: the file that it is written to; empty for standard output.

    Raises:
        UserError: an argument is wrong, or an image can't be read.
    """
    if form not in FORMATS:
        raise UserError(f"--format {form}: known are {', '.join(FORMATS)}")
    if out and not Path(out).parent.is_dir():
        raise UserError(f"--out {out}: its folder does not exist")
    platforms = connection.resolve_platforms(platform)
    if len(platforms) != 1:
        raise UserError("--platform all: one platform at a time is compared")
    found = comparison(
        sides.read(old, platforms[0], old_contract), sides.read(new, platforms[0], new_contract)
    )
    text = rendering.render(found, form)
    if out:
        files.write_atomically(Path(out), text)
    else:
        rendering.show(text)


def comparison(old: ComparedImage, new: ComparedImage) -> Comparison:
    """Everything in which two images differ."""
    layers: list[LayerChange] = []
    for name, mine, theirs in (("old", old, new), ("new", new, old)):
        layers += [
            LayerChange(digest=digest, size=size, side="old" if name == "old" else "new")
            for digest, size in mine.layers.items()
            if digest not in theirs.layers
        ]
    both = old.layers.keys() & new.layers.keys()
    return Comparison(
        platform=new.stored.platform,
        old=_side(old),
        new=_side(new),
        promises=changes(old.promises, new.promises) if old.promises and new.promises else (),
        debian=changes(old.packages["debian"], new.packages["debian"]),
        python=changes(old.packages["python"], new.packages["python"]),
        settings=changes(old.settings, new.settings),
        layers=tuple(layers),
        shared=sum(size for digest, size in new.layers.items() if digest in both),
    )


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Change, ...]:
    """What is there on one side alone or differs, by name."""
    return tuple(
        Change(name=name, old=old.get(name), new=new.get(name))
        for name in sorted(old.keys() | new.keys(), key=lambda name: (name.lower(), name))
        if old.get(name) != new.get(name)
    )


def _side(image: ComparedImage) -> Side:
    return Side(
        reference=image.reference,
        digest=image.stored.digest,
        size=image.stored.size,
        layers=len(image.layers),
        promised=bool(image.promises),
    )
