"""The file system of a container of the image: all layers on top of each other."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from seatrial.inspection.layer import Layer, LayerEntry

_MOST_LINKS = 40
"""Symbolic links that are followed for one path: Linux's own limit."""


class Placed(NamedTuple):
    """An entry of the file system, and the number of its layer, from 0."""

    entry: LayerEntry
    layer: int


@dataclass
class FileSystem:
    """The entries that remain after removals, with hard links made into files."""

    entries: dict[str, Placed] = field(default_factory=dict)
    """Entries by absolute path; folders that no layer mentions are missing."""
    _real_folders: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, layers: Iterable[Layer]) -> Self:
        """Apply `layers` in their order, the lowest first."""
        system = cls()
        for number, layer in enumerate(layers):
            system._clear(layer)
            for entry in layer.entries:
                if entry.type not in ("removal", "opaque"):
                    system._place(entry, number)
        return system

    def resolve(self, path: str) -> str | None:
        """Follow every link on `path`; None where it leads nowhere, or in a circle."""
        found = self._follow(path, _MOST_LINKS)
        return found if found == "/" or found in self.entries else None

    def _follow(self, path: str, left: int) -> str | None:
        """Follow links; a path that no layer mentions counts as a folder that the engine makes."""
        reached = "/"
        parts = [part for part in path.split("/") if part not in ("", ".")]
        for number, part in enumerate(parts):
            if part == "..":
                reached = posixpath.dirname(reached)
                continue
            here = posixpath.join(reached, part)
            found = self.entries.get(here)
            if found and found.entry.type == "symlink":
                goal = posixpath.join(reached, found.entry.target, *parts[number + 1 :])
                return self._follow(goal, left - 1) if left else None
            reached = here
        return reached

    def _real(self, path: str) -> str:
        """Follow the links on the way to `path`, but not `path` itself."""
        folder, name = posixpath.split(path)
        if folder not in self._real_folders:
            self._real_folders[folder] = self._follow(folder, _MOST_LINKS) or folder
        return posixpath.join(self._real_folders[folder], name)

    def _clear(self, layer: Layer) -> None:
        """Delete entries that the layer removes, or replaces by something other than a folder."""
        gone: set[str] = set()
        emptied: set[str] = set()
        for entry in layer.entries:
            path = self._real(entry.path)
            before = self.entries.get(path)
            if entry.type == "opaque":
                emptied.add(path)
            elif entry.type == "removal" or (
                before and before.entry.type == "folder" and entry.type != "folder"
            ):
                gone.add(path)
        if gone or emptied:
            for path in list(self.entries):
                above = set(_above(path))
                if path in gone or above & gone or above & emptied:
                    del self.entries[path]
        self._real_folders.clear()

    def _place(self, entry: LayerEntry, layer: int) -> None:
        path = self._real(entry.path)
        if entry.type == "hard link":
            origin = self.entries.get(self._real(entry.target))
            traits = origin.entry.traits if origin else ()
            mode = origin.entry.mode if origin else entry.mode
            entry = replace(entry, type="file", mode=mode, target="", traits=traits)
        self.entries[path] = Placed(replace(entry, path=path), layer)
        if path in self._real_folders:
            self._real_folders.clear()


def _above(path: str) -> Iterator[str]:
    while path != "/":
        path = posixpath.dirname(path)
        yield path
