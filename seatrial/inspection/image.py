"""An image of the engine's store, laid open: its layers, and what it was made and is run with.

Reading a layer takes about ten seconds for a gigabyte. A layer never changes under its digest, so
what was read is kept, for every process and every image that shares the layer.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from typing import IO, TYPE_CHECKING, NamedTuple

from filelock import FileLock

from seatrial.build import store
from seatrial.errors import UserError
from seatrial.inspection import layer as layers
from seatrial.inspection.filesystem import FileSystem
from seatrial.project import current

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from seatrial.build.store import StoredPlatform
    from seatrial.inspection.layer import Layer

_READERS = ("layer", "content", "programs", "authorities", "secrets")
"""The modules that decide what is kept of a layer."""
_BLOBS = "blobs/sha256/"


class Blob(NamedTuple):
    """A piece of an exported image."""

    digest: str
    size: int
    """Bytes."""
    content: IO[bytes]
    """Read before the next blob is asked for, or never."""


@dataclass(frozen=True)
class Image:
    """One platform of an image."""

    stored: StoredPlatform
    layers: tuple[Layer, ...] = field(repr=False)
    """The lowest first."""

    @cached_property
    def files(self) -> FileSystem:
        """What a container of it sees."""
        return FileSystem.of(self.layers)


def lay_open(reference: str, platform: str) -> Image:
    """Read every layer of an image; processes that ask for the same at once read it once.

    Args:
        reference: a tag or digest that the engine knows.
        platform: such as `linux/arm64`.

    Raises:
        UserError: the engine has no such image, or can't export it.
    """
    stored = described(reference, platform)
    with FileLock(_folder() / f"{_plain(stored.digest)}.lock"):
        unread = {digest for digest in stored.layers if not _path(digest).is_file()}
        for blob in exported(reference) if unread else ():
            if blob.digest in unread:
                _keep(layers.read(blob.digest, blob.content))
                unread.remove(blob.digest)
            if not unread:
                break
        if unread:
            raise UserError(f"{reference} was exported without its layers {sorted(unread)}")
    return Image(stored, tuple(_recall(digest) for digest in stored.layers))


def described(reference: str, platform: str) -> StoredPlatform:
    """What the engine's store says about an image on `platform`.

    Raises:
        UserError: it has no such image.
    """
    image = store.read(reference)
    stored = image.platform(platform) if image else None
    if stored is None:
        raise UserError(f"{reference} is not in the engine's store for {platform}")
    return stored


def exported(reference: str) -> Iterator[Blob]:
    """Export an image, and give each of its blobs; whoever has what they want may stop.

    Raises:
        UserError: the engine fails to export it.
    """
    command = ["docker", "save", reference]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as export:
        assert export.stdout
        assert export.stderr
        try:
            with tarfile.open(fileobj=export.stdout, mode="r|") as archive:
                for member in archive:
                    content = archive.extractfile(member)
                    if content and member.name.startswith(_BLOBS):
                        digest = f"sha256:{member.name.removeprefix(_BLOBS)}"
                        yield Blob(digest, member.size, content)
        except tarfile.ReadError as error:
            why = export.stderr.read().decode(errors="replace").strip() or str(error)
            raise UserError(f"{reference} cannot be read from the engine: {why}") from error


def _plain(digest: str) -> str:
    return digest.replace(":", "-")


def _folder() -> Path:
    return current().kept("layers")


def _path(digest: str) -> Path:
    return _folder() / f"{_plain(digest)}.{_rules()}.json"


@cache
def _rules() -> str:
    """What was read by other rules than today's is read again."""
    package = resources.files("seatrial.inspection")
    sources = [package.joinpath(f"{name}.py").read_bytes() for name in _READERS]
    return hashlib.sha256(b"".join(sources)).hexdigest()[:12]


def _keep(layer: Layer) -> None:
    path = _path(layer.digest)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(layer.as_json()), encoding="utf-8")
    partial.replace(path)
    for outdated in _folder().glob(f"{_plain(layer.digest)}.*.json"):
        if outdated != path:
            outdated.unlink(missing_ok=True)


def _recall(digest: str) -> Layer:
    return layers.Layer.from_json(json.loads(_path(digest).read_text(encoding="utf-8")))
