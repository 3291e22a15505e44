"""A mutant as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seatrial.contract import Claim


@dataclass(frozen=True)
class Mutant:
    """An image of the catalogue with one fault."""

    name: str
    reference: str
    """The tag that it is built under."""
    variant: str
    """The image that it is like, but for its fault, and whose contract it is held against."""
    promise: Claim
    """What it breaks, with the item where the key has some."""
    made_from: tuple[str, ...]
    """References that its build looks up."""
    also: tuple[Claim, ...] = ()
    """Promises that can't be told apart from it: no image keeps them and breaks this one."""

    @property
    def broken(self) -> tuple[Claim, ...]:
        """Everything that a test of it may fail for."""
        return (self.promise, *self.also)
