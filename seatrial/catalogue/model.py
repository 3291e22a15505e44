"""The catalogue as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from seatrial.project import Project


@dataclass(frozen=True)
class Image:
    """Target of the bake file."""

    name: str
    tags: tuple[str, ...]
    """The references it is built under; a base has none."""
    platforms: tuple[str, ...]
    folder: Path
    """Build context, where its lists and its contract are."""
    labels: Mapping[str, str]
    dependencies: tuple[str, ...]
    """Names of the targets that it is made from, directly."""

    @property
    def reference(self) -> str:
        """The first tag: what was built last on this machine."""
        return self.tags[0]

    @property
    def contract(self) -> Path:
        """Path of its contract; services and bases have none."""
        return self.folder / "contract.toml"


@dataclass(frozen=True)
class Catalogue:
    """Images by name, for one set of arguments."""

    project: Project
    """Project that the bake file and its contexts are from."""
    variants: Mapping[str, Image]
    services: Mapping[str, Image]
    bases: Mapping[str, Image]
    models: Mapping[str, Image]
    """Images that `invoke model` makes."""
    default: tuple[str, ...]
    """The variants that are built when none is named."""
    tried: tuple[str, ...]
    """The variants that the trial takes when none is named."""
    arguments: Mapping[str, str]
    """Arguments that a person may set, with the values in use; empty where the build chooses."""

    @property
    def images(self) -> Mapping[str, Image]:
        """Everything that is built, whatever its kind."""
        return {**self.bases, **self.variants, **self.models, **self.services}

    def select(self, names: Sequence[str]) -> list[Image]:
        """Take variants (or services) by name.

        Args:
            names: none for the default group; a name given twice counts once.

        Raises:
            UserError: a name is not in the catalogue.
        """
        known = {**self.variants, **self.services}
        for name in names:
            if name not in known:
                raise UserError(f"unknown variant {name!r}: known are {', '.join(known)}")
        return [known[name] for name in dict.fromkeys(names or self.default)]

    def variant(self, name: str) -> Image:
        """Take one variant.

        Raises:
            UserError: it is not in the catalogue.
        """
        if name not in self.variants:
            raise UserError(f"unknown variant {name!r}: known are {', '.join(self.variants)}")
        return self.variants[name]

    def service(self, name: str) -> Image:
        """Take one service.

        Raises:
            UserError: it is not in the catalogue.
        """
        if name not in self.services:
            raise UserError(f"unknown service {name!r}: known are {', '.join(self.services)}")
        return self.services[name]

    def needed(self, images: Iterable[Image]) -> set[str]:
        """Name the images and everything that they are made from."""
        names: set[str] = set()
        waiting = [image.name for image in images]
        while waiting:
            name = waiting.pop()
            if name not in names:
                names.add(name)
                waiting.extend(self.images[name].dependencies)
        return names
