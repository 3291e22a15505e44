"""A mutant as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seatrial.catalogue import Image
    from seatrial.contract import PromiseSelector


@dataclass(frozen=True)
class SourceChange:
    """A text in a module of the image, and the one in its place."""

    file: str
    """Path below the environment's site-packages."""
    before: str
    """Has to be there exactly once."""
    after: str


@dataclass(frozen=True)
class Recipe:
    """Recipe of an image whose fault is not one of code."""

    dockerfile: str
    """Names variants of the catalogue as the stages that it begins with."""
    uses: tuple[str, ...] = ()
    """The variants that it names, beside the one that the mutant is like."""
    online: bool = False
    """True if it installs something: it gets the secrets and tools that bases get."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Arguments of the build."""
    platforms: tuple[str, ...] = ()
    """None for the engine's own."""
    provenance: bool = True


@dataclass(frozen=True)
class Mutant:
    """An image of the catalogue with one fault."""

    name: str
    variant: str
    """The image that it is like, but for its fault, and whose contract it is held against."""
    promise: PromiseSelector
    """Promise that it breaks, with the item where the key has some."""
    also: tuple[PromiseSelector, ...] = ()
    """Promises that can't be told apart from it: no image keeps them and breaks this one."""
    why: str = ""
    """Harm that the fault does to whoever runs such an image."""
    changes: tuple[SourceChange, ...] = ()
    """Changes of the image's code; none where it has a recipe."""
    recipe: Recipe | None = None

    @property
    def broken(self) -> tuple[PromiseSelector, ...]:
        """Everything that a test of it may fail for."""
        return (self.promise, *self.also)

    @property
    def made_from(self) -> tuple[str, ...]:
        """The variants that have to be there."""
        return (self.variant, *(self.recipe.uses if self.recipe else ()))

    def reference(self, variant: Image) -> str:
        """The tag that it is built under.

        Args:
            variant: the image that it is like, whose registry it takes.
        """
        registry, _, _ = variant.reference.rpartition("/")
        return f"{registry}/mutant-{self.name}:latest"
