"""The single promises that a contract makes, each under the name that tests and reports use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

from seatrial.contract.declarations import declaration, declarations
from seatrial.errors import UserError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seatrial.contract.declarations import Declaration
    from seatrial.contract.declaring import Need
    from seatrial.contract.schema import Contract


@dataclass(frozen=True)
class Promise:
    """Thing that an image promises, such as `server.databases` with the item `postgresql`."""

    key: str
    """Section and key, joined by a dot."""
    item: str | None = None
    """Item of a list or a table; None where the key holds a single value."""
    value: object = None
    """Value in the contract: for an item of a list the item itself."""

    def __str__(self) -> str:
        return self.key if self.item is None else f"{self.key}[{self.item}]"

    @property
    def declaration(self) -> Declaration:
        """Declaration of its key in the schema."""
        return declaration(self.key)

    @property
    def needs(self) -> frozenset[Need]:
        """Needs without which it is not tried."""
        return self.declaration.needs_of(self.item)


class PromiseSelector(NamedTuple):
    """Selection of promises: those of a key, or one of its items."""

    key: str
    item: str | None = None
    """None for every item."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `KEY` or `KEY[ITEM]`.

        Raises:
            UserError: no contract can have such a key.
        """
        match = re.fullmatch(r"(?P<key>[\w.]+)(?:\[(?P<item>.+)\])?", text)
        if match is None:
            raise UserError(
                f"'{printable(text)}' is no promise: write KEY or KEY[ITEM], such as"
                " server.databases[sqlite]"
            )
        declaration(match["key"])
        return cls(match["key"], match["item"])

    @classmethod
    def of(cls, key: str, item: str | None = None) -> Self:
        """Take the arguments of a test's mark.

        Raises:
            UserError: no contract can have such a key, or promise such an item.
        """
        declaration(key).require_item(item)
        return cls(key, item)

    @property
    def declaration(self) -> Declaration:
        """Declaration of its key in the schema."""
        return declaration(self.key)

    def __str__(self) -> str:
        return self.key if self.item is None else f"{self.key}[{self.item}]"

    def covers(self, promise: Promise) -> bool:
        """Tell whether `promise` is meant."""
        return self.key == promise.key and self.item in (None, promise.item)


def promises_of(contract: Contract) -> list[Promise]:
    """Every promise that `contract` makes, in the order of the schema."""
    return list(_walk(contract))


def _walk(contract: Contract) -> Iterator[Promise]:
    for declared in declarations().values():
        value = getattr(getattr(contract, declared.section), declared.name)
        if value is None:
            continue
        if not declared.itemwise:
            yield Promise(declared.key, None, value)
        elif isinstance(value, dict):
            yield from (Promise(declared.key, item, promised) for item, promised in value.items())
        else:
            yield from (Promise(declared.key, str(item), item) for item in value)
