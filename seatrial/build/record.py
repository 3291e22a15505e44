"""The record of a build: images, bases, options and times."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from seatrial import files
from seatrial.project import current

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from seatrial.build.builder import Builder


@dataclass(frozen=True)
class Made:
    """Built image for a platform."""

    name: str
    reference: str
    index: str
    """Digest over all platforms and attestations."""
    platform: str
    digest: str
    """Digest of the platform's manifest; empty where the image was not read or is not here."""
    size: int
    """Bytes that a pull transfers; 0 where the image is not here, or was not weighed."""
    stand_in: bool
    seconds: float
    """Seconds in which at least one of its steps, or of its parts', was at work."""
    cached: bool
    """True if no step had to run."""


@dataclass(frozen=True)
class BuildRecord:
    """Inputs and results of a build."""

    started: str
    """RFC 3339."""
    seconds: float
    builder: Builder
    revision: str
    arguments: Mapping[str, str]
    bases: Mapping[str, str]
    """Variables of the bake file: references with digests, empty where bootstrapped."""
    images: Sequence[Made]


def folder() -> Path:
    """Return the folder of the current project's records."""
    return current().kept("builds")


def newest_first() -> Iterator[dict[str, Any]]:
    """Read the current project's records as JSON, the newest first."""
    for path in sorted(folder().glob("*.json"), key=lambda path: -path.stat().st_mtime):
        yield json.loads(path.read_text(encoding="utf-8"))


def write(build: BuildRecord) -> Path:
    """Write a record into `.seatrial/builds/`, or where else the project keeps its state.

    Returns:
        Its path.
    """
    place = folder()
    stamp = build.started.replace(":", "").replace("+0000", "Z")
    path = place / f"{stamp}-{os.getpid()}.json"
    files.write_atomically(path, json.dumps(asdict(build), indent=2))
    return path
