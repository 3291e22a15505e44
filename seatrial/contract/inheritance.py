"""Inheritance of a contract from the one that it extends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seatrial.contract.declarations import declarations
from seatrial.contract.declaring import Trait
from seatrial.contract.promises import PromiseSelector
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def inherited(base: Mapping[str, Any], origin: Path, heir: Path) -> dict[str, Any]:
    """Take everything of a contract but its description, for a file in another folder.

    Args:
        base: the contract that is extended.
        origin: its file.
        heir: the file that extends it.
    """
    taken = {name: value for name, value in base.items() if name != "description"}
    for declaration in declarations().values():
        named = taken.get(declaration.section, {}).get(declaration.name)
        if Trait.FILE in declaration.traits and named is not None and not Path(named).is_absolute():
            # The file stands where it stood: it is named from another folder.
            place = (origin.parent / named).resolve()
            moved = os.path.relpath(place, heir.parent.resolve())
            taken[declaration.section] = {**taken[declaration.section], declaration.name: moved}
    return taken


def without(content: Mapping[str, Any], withdrawn: Iterable[str]) -> dict[str, Any]:
    """Leave promises out.

    Args:
        content: a contract.
        withdrawn: `KEY`, or `KEY[ITEM]` for one item of it.

    Raises:
        UserError: one of them is unknown, or the contract doesn't make it.
    """
    left = {
        name: dict(value) if isinstance(value, dict) else value for name, value in content.items()
    }
    for selector in map(PromiseSelector.parse, withdrawn):
        declaration = selector.declaration
        table = left.get(declaration.section, {})
        value = table.pop(declaration.name, None)
        if value is not None and selector.item is not None:
            declaration.require_item(selector.item)
            kept = _without_item(value, selector.item)
            if kept:
                table[declaration.name] = kept
            value = None if len(kept) == len(value) else value
        if value is None:
            raise UserError(f"{selector} is not promised there")
    return left


def _without_item(value: Any, item: str) -> Any:  # noqa: ANN401 - a list or a table of TOML
    if isinstance(value, dict):
        return {key: member for key, member in value.items() if key != item}
    return [member for member in value if str(member) != item]


def merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Merge tables key by key; a list or a single value of `own` replaces what was there."""
    result = dict(base)
    for name, value in own.items():
        known = result.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            result[name] = merged(known, value)
        else:
            result[name] = value
    return result
