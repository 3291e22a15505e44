"""The layers of an image in the engine's store.

Reading a layer takes about ten seconds for a gigabyte. A layer never changes under its digest, so
what was read is kept, for every process and every image that shares the layer.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING

from filelock import FileLock

from seatrial import files
from seatrial.build import store
from seatrial.engine import export
from seatrial.errors import UserError
from seatrial.inspection import (
    archives,
    authorities,
    content,
    key_stores,
    layer,
    programs,
    secret_forms,
    secrets,
    stand_ins,
)
from seatrial.inspection.filesystem import FileSystem
from seatrial.inspection.layer import Layer
from seatrial.project import current

if TYPE_CHECKING:
    from pathlib import Path

    from seatrial.build.store import StoredPlatform

_READERS = (
    layer,
    content,
    programs,
    authorities,
    secrets,
    secret_forms,
    stand_ins,
    key_stores,
    archives,
)
"""Modules that determine the kept content of a layer."""


@dataclass(frozen=True)
class InspectedImage:
    """Image of one platform, with its layers."""

    stored: StoredPlatform
    layers: tuple[Layer, ...] = field(repr=False)
    """The lowest first."""

    @cached_property
    def files(self) -> FileSystem:
        """The file system that a container of the image sees."""
        return FileSystem.of(self.layers)


def read_layers(reference: str, platform: str) -> InspectedImage:
    """Read every layer of an image; concurrent processes read a layer once.

    Args:
        reference: a tag or digest that the engine knows.
        platform: such as `linux/arm64`.

    Raises:
        UserError: the engine has no such image, or can't export it.
    """
    stored = stored_platform(reference, platform)
    with FileLock(_folder() / f"{_plain(stored.digest)}.lock"):
        unread = {digest for digest in stored.layers if not _path(digest).is_file()}
        for blob in export.blobs(reference) if unread else ():
            if blob.digest in unread:
                _keep(layer.read(blob.digest, blob.content))
                unread.remove(blob.digest)
            if not unread:
                break
        if unread:
            raise UserError(f"{reference} was exported without its layers {sorted(unread)}")
    return InspectedImage(stored, tuple(_recall(digest) for digest in stored.layers))


def stored_platform(reference: str, platform: str) -> StoredPlatform:
    """Read an image's description for `platform` in the engine's store.

    Raises:
        UserError: it has no such image.
    """
    image = store.read(reference)
    stored = image.platform(platform) if image else None
    if stored is None:
        raise UserError(f"{reference} is not in the engine's store for {platform}")
    return stored


def _plain(digest: str) -> str:
    return digest.replace(":", "-")


def _folder() -> Path:
    return current().kept("layers")


def _path(digest: str) -> Path:
    return _folder() / f"{_plain(digest)}.{_rules()}.json"


@cache
def _rules() -> str:
    """Hash the modules in `_READERS`: layers that other versions of them read are read again."""
    sources = "".join(map(inspect.getsource, _READERS))
    return hashlib.sha256(sources.encode()).hexdigest()[:12]


def _keep(read: Layer) -> None:
    path = _path(read.digest)
    files.write_atomically(path, json.dumps(read.as_json()))
    for outdated in _folder().glob(f"{_plain(read.digest)}.*.json"):
        if outdated != path:
            outdated.unlink(missing_ok=True)


def _recall(digest: str) -> Layer:
    return Layer.from_json(json.loads(_path(digest).read_text(encoding="utf-8")))
