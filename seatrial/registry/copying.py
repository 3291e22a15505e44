"""Copy an image to a repository: content first, so that nothing there refers to a gap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from seatrial.engine import export
from seatrial.errors import UserError, printable
from seatrial.registry.client import MANIFESTS, CheckedStream, Manifest, manifest_of
from seatrial.registry.reference import DIGEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from seatrial.registry.client import Repository

_MOST_MANIFESTS = 100
"""In an index; each platform has one, and its attestations another."""
_MOST_BLOBS = 200
"""Of a manifest."""
_LARGEST_DOCUMENT = 1 << 20


class ImageSource(Protocol):
    """Where an image comes from."""

    def manifest(self, name: str, /) -> Manifest | None:
        """The manifest or index of a digest."""

    def blobs(self, sizes: Mapping[str, int], /) -> Iterator[tuple[str, CheckedStream]]:
        """Blobs by digest, each to be read before the next; `sizes` has their bytes."""


def copy(source: ImageSource, digest: str, target: Repository) -> Manifest:
    """Copy an image or an index with all that it names, under its digest.

    What is there already is not sent again, so that a copy that broke off is finished.

    Args:
        source: where it is.
        digest: of the index or manifest.
        target: where it goes.

    Returns:
        What has the digest.

    Raises:
        UserError: something is missing, is not what its digest says, or is not taken.
    """
    root = _manifest(source, digest)
    manifests = [*_children(source, root), root]
    sizes = {blob["digest"]: blob["size"] for each in manifests for blob in _blobs(each)}
    missing = {name: size for name, size in sizes.items() if not target.has(name)}
    for name, content in source.blobs(missing) if missing else ():
        target.push_blob(name, missing[name], content)
    for manifest in manifests:
        if target.manifest(manifest.digest) is None:
            target.push_manifest(manifest)
    return root


def is_index(manifest: Manifest) -> bool:
    """Tell whether it lists manifests rather than layers."""
    return isinstance(manifest.document.get("manifests"), list)


def _manifest(source: ImageSource, digest: str) -> Manifest:
    found = source.manifest(digest)
    if found is None:
        raise UserError(f"{digest} is not there")
    if found.media_type not in MANIFESTS:
        raise UserError(f"{digest}: {printable(found.media_type)} is no image")
    return found


def _children(source: ImageSource, root: Manifest) -> Iterator[Manifest]:
    if is_index(root):
        for descriptor in _descriptors(root, root.document["manifests"], _MOST_MANIFESTS):
            child = _manifest(source, descriptor["digest"])
            if is_index(child):
                raise UserError(f"{root.digest}: an index in an index")
            yield child


def _blobs(manifest: Manifest) -> list[dict[str, Any]]:
    if is_index(manifest):
        return []
    document = manifest.document
    layers = document.get("layers")
    listed = [document.get("config"), *(layers if isinstance(layers, list) else [])]
    return _descriptors(manifest, listed, _MOST_BLOBS)


def _descriptors(manifest: Manifest, listed: list[Any], most: int) -> list[dict[str, Any]]:
    if len(listed) > most:
        raise UserError(f"{manifest.digest}: it has {len(listed)} parts; at most {most} are taken")
    for entry in listed:
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("size"), int)
            or not DIGEST.fullmatch(str(entry.get("digest")))
        ):
            raise UserError(f"{manifest.digest}: no image: it names a part without digest or size")
    return listed


class EngineImage:
    """An image in the engine's store, as `docker save` gives it."""

    def __init__(self, reference: str) -> None:
        """Read its manifests.

        Raises:
            UserError: the engine can't export it.
        """
        self._reference = reference
        self._manifests = {
            blob.digest: found
            for blob in export.blobs(reference)
            if blob.size <= _LARGEST_DOCUMENT and (found := _read(blob.content.read()))
        }

    def manifest(self, name: str) -> Manifest | None:
        """The manifest or index of a digest."""
        return self._manifests.get(name)

    def blobs(self, sizes: Mapping[str, int]) -> Iterator[tuple[str, CheckedStream]]:
        """Blobs by digest, in the order of the export."""
        left = set(sizes)
        for blob in export.blobs(self._reference):
            if blob.digest in left:
                name = f"{self._reference} {blob.digest}"
                yield (
                    blob.digest,
                    CheckedStream(blob.content, blob.digest, sizes[blob.digest], name),
                )
                left.remove(blob.digest)
            if not left:
                return
        raise UserError(
            f"{self._reference}: not whole in the engine's store: {min(left)} is missing"
        )


def _read(content: bytes) -> Manifest | None:
    if not content.startswith(b"{"):
        return None
    try:
        media_type = str(manifest_of(content, "").document.get("mediaType"))
    except UserError:
        return None  # a small blob that is no JSON
    return manifest_of(content, media_type) if media_type in MANIFESTS else None
