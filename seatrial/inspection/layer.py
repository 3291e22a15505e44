"""A layer of an image: the entries of its tar archive, and what their content shows.

A layer's digest names its content, so what was read once holds for every image that shares it.
"""

from __future__ import annotations

import gzip
import io
import posixpath
import tarfile
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, Literal, Self, cast

import zstandard

from seatrial.inspection.archives import UnpackingBudget
from seatrial.inspection.content import ContentTrait, traits_of

if TYPE_CHECKING:
    from collections.abc import Iterator

EntryType = Literal["file", "folder", "symlink", "hard link", "device", "removal", "opaque"]
"""`removal` deletes a path of lower layers, `opaque` all of their content in a folder."""

_REMOVAL = ".wh."
_OPAQUE = ".wh..wh..opq"
_CAPABILITY = ("SCHILY.xattr.security.capability", "LIBARCHIVE.xattr.security.capability")


@dataclass(frozen=True)
class LayerEntry:
    """A file, folder or link of one layer."""

    path: str
    """Absolute, without `.` and `..`."""
    type: EntryType
    mode: int = 0
    """Permission bits, those for setuid, setgid and sticky included."""
    target: str = ""
    """Goal of a link; absolute for a hard link."""
    traits: tuple[ContentTrait, ...] = ()


@dataclass(frozen=True)
class Layer:
    """A single layer, with entries that later layers overwrite or remove."""

    digest: str
    entries: tuple[LayerEntry, ...]

    def as_json(self) -> dict[str, Any]:
        """Describe the layer for a JSON file; see `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Restore the layer that `as_json` described."""
        return cls(value["digest"], tuple(_revive(entry) for entry in value["entries"]))


def _revive(entry: dict[str, Any]) -> LayerEntry:
    return LayerEntry(
        **{**entry, "traits": tuple(ContentTrait(**trait) for trait in entry["traits"])}
    )


def read(digest: str, blob: IO[bytes]) -> Layer:
    """Read a layer, compressed in any way that the OCI image format knows.

    Args:
        digest: of the blob.
        blob: read from its start to its end, in pieces, and never sought in.

    Raises:
        tarfile.ReadError: it is no tar archive.
    """
    with tarfile.open(fileobj=decompressed(blob), mode="r|") as archive:
        return Layer(digest, tuple(_entries(archive, UnpackingBudget())))


def decompressed(blob: IO[bytes]) -> IO[bytes]:
    """Decompress a blob with gzip or zstd; give the blob itself where it is not compressed."""
    buffered = io.BufferedReader(cast("io.RawIOBase", blob))
    start = buffered.peek(4)[:4]
    if start[:2] == b"\x1f\x8b":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=buffered))
    if start == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor().stream_reader(buffered, read_across_frames=True)
    return buffered


def _entries(archive: tarfile.TarFile, budget: UnpackingBudget) -> Iterator[LayerEntry]:
    for member in archive:
        path = posixpath.normpath(f"/{member.name}")
        folder, name = posixpath.split(path)
        if name == _OPAQUE:
            yield LayerEntry(folder, "opaque")
        elif name.startswith(_REMOVAL):
            yield LayerEntry(posixpath.join(folder, name.removeprefix(_REMOVAL)), "removal")
        else:
            yield _entry(archive, member, path, budget)


def _entry(
    archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, budget: UnpackingBudget
) -> LayerEntry:
    if member.isdir():
        return LayerEntry(path, "folder", member.mode)
    if member.issym():
        return LayerEntry(path, "symlink", member.mode, member.linkname)
    if member.islnk():
        return LayerEntry(path, "hard link", member.mode, posixpath.normpath(f"/{member.linkname}"))
    content = archive.extractfile(member)
    if content is None:
        return LayerEntry(path, "device", member.mode)
    traits = traits_of(path, content, budget)
    if any(member.pax_headers.get(name) for name in _CAPABILITY):
        traits = (*traits, ContentTrait("capability", "carries file capabilities"))
    return LayerEntry(path, "file", member.mode, traits=traits)
