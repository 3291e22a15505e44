"""Where two images differ: the configuration's keys, the layers, and the files in them."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from itertools import zip_longest
from typing import IO, TYPE_CHECKING, Any

from seatrial.engine import export
from seatrial.inspection.layer import decompressed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from seatrial.build.store import StoredPlatform

_CHUNK = 1 << 20
_FIELDS = ("type", "mode", "uid", "gid", "mtime", "linkname", "pax_headers")


@dataclass(frozen=True)
class Difference:
    """One thing in which two builds differ."""

    platform: str
    place: str
    """`configuration`, or the number of a layer and a path in it."""
    first: str
    second: str


@dataclass(frozen=True)
class ImageSide:
    """One of two images."""

    reference: str
    stored: StoredPlatform


def of(first: ImageSide, second: ImageSide) -> list[Difference]:
    """Everything in which two images of one platform differ; nothing where their digests agree."""
    if first.stored.digest == second.stored.digest:
        return []
    platform = first.stored.platform
    found = [
        Difference(platform, f"configuration: {key}", str(one), str(other))
        for key, one, other in _both(first.stored.config, second.stored.config)
    ]
    if first.stored.history != second.stored.history:
        found += [
            Difference(platform, f"history, step {number}", one, other)
            for number, (one, other) in enumerate(
                zip_longest(first.stored.history, second.stored.history, fillvalue="nothing"), 1
            )
            if one != other
        ]
    pairs = list(zip_longest(first.stored.layers, second.stored.layers))
    changed = [number for number, (one, other) in enumerate(pairs) if one != other]
    entries = [
        _entries(side.reference, {pairs[number][index] for number in changed})
        for index, side in enumerate((first, second))
    ]
    for number in changed:
        one, other = (entries[index].get(pairs[number][index] or "", {}) for index in (0, 1))
        inside = [
            Difference(platform, f"layer {number + 1}: {path}", _shown(mine), _shown(theirs))
            for path, mine, theirs in _both(one, other)
        ]
        # The same files in another order or compression.
        digests = (str(digest)[:19] for digest in pairs[number])
        found += inside or [Difference(platform, f"layer {number + 1}", *digests)]
    return found or [
        Difference(platform, "the manifest alone", first.stored.digest, second.stored.digest)
    ]


def _both(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted(one.keys() | other.keys()):
        if one.get(key) != other.get(key):
            yield key, one.get(key), other.get(key)


def _entries(reference: str, digests: set[str | None]) -> dict[str, dict[str, dict[str, Any]]]:
    """Describe the entries of some layers, by digest and path."""
    found = {}
    for blob in export.blobs(reference) if digests - {None} else ():
        if blob.digest in digests:
            with tarfile.open(fileobj=decompressed(blob.content), mode="r|") as archive:
                found[blob.digest] = {
                    member.name: _described(archive, member) for member in archive
                }
    return found


def _described(archive: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    described = {field: getattr(member, field) for field in _FIELDS}
    content = archive.extractfile(member) if member.isfile() else None
    return described | ({"content": _sha256(content)} if content else {})


def _sha256(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := content.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()[:12]


def _shown(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "is not there"
    return ", ".join(f"{key} {value!r}" for key, value in entry.items() if value)
