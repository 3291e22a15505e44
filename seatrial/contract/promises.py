"""The single promises that a contract makes, each under the name that tests and reports use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

from seatrial.contract.schema import Contract
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMISING_SECTIONS = (
    "image",
    "process",
    "contents",
    "entrypoint",
    "command_line",
    "http",
    "server",
    "serving",
    "python",
)


@dataclass(frozen=True)
class Promise:
    """One thing that an image promises, such as `server.databases` with the item `postgresql`."""

    key: str
    """Section and key, joined by a dot."""
    item: str | None = None
    """Which item of a list or a table it is; None where the key holds a single value."""
    value: object = None
    """What the contract says about it: for an item of a list the item itself."""

    def __str__(self) -> str:
        return self.key if self.item is None else f"{self.key}[{self.item}]"


class Claim(NamedTuple):
    """What is tried: the promises of a key, or one of its items."""

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
        if match is None or match["key"] not in _keys():
            raise UserError(f"unknown promise '{text}': known keys are {', '.join(_keys())}")
        return cls(match["key"], match["item"])

    def __str__(self) -> str:
        return self.key if self.item is None else f"{self.key}[{self.item}]"

    def covers(self, promise: Promise) -> bool:
        """Whether `promise` is meant."""
        return self.key == promise.key and self.item in (None, promise.item)


def promises_of(contract: Contract) -> list[Promise]:
    """Every promise that `contract` makes, in the order of the schema."""
    return list(_walk(contract))


def _keys() -> list[str]:
    """Every key that can promise something, in the order of the schema."""
    empty = Contract(description="empty")
    return [
        f"{section}.{key}" for section in PROMISING_SECTIONS for key, _ in getattr(empty, section)
    ]


def _walk(contract: Contract) -> Iterator[Promise]:
    for section_name in PROMISING_SECTIONS:
        for key, value in getattr(contract, section_name):
            name = f"{section_name}.{key}"
            if value is None:
                continue
            if isinstance(value, dict):
                yield from (Promise(name, item, said) for item, said in value.items())
            elif isinstance(value, list) and name not in WHOLE_LISTS:
                yield from (Promise(name, str(item), item) for item in value)
            else:
                yield Promise(name, None, value)


WHOLE_LISTS = frozenset({"image.entrypoint", "process.confined"})
"""Lists that are one promise: an entry point is right or wrong as a whole."""
