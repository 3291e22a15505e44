"""Images in the engine's store, with all their platforms.

The engine's API describes only one platform of an image, so this reads the image as an OCI layout
from `docker save`, which takes seconds per hundred megabytes. The content behind a digest never
changes, so what was read is kept beside the build records.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from docker.errors import ImageNotFound

from seatrial import files
from seatrial.engine import connection, export
from seatrial.errors import UserError
from seatrial.project import command, current

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Manifests, configurations and attestations are small; everything above is a layer.
_LARGEST_DOCUMENT = 8 * 1024 * 1024
_INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ATTESTATION = "vnd.docker.reference.type"
_ATTESTED = "vnd.docker.reference.digest"
_PREDICATE = "in-toto.io/predicate-type"


@dataclass(frozen=True)
class StoredPlatform:
    """The image of one platform."""

    platform: str
    """Name, such as `linux/arm64`."""
    digest: str
    """Digest of its manifest."""
    size: int
    """Bytes that a pull transfers: compressed layers and configuration."""
    layers: tuple[str, ...]
    """Digests, the lowest layer's first."""
    # What may hold secrets is not shown: pytest prints the arguments of a test that fails.
    labels: Mapping[str, str] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)
    """The OCI image configuration's `config`: User, Env, Entrypoint, Cmd, ..."""
    history: tuple[str, ...] = field(default=(), repr=False)
    """The commands that it was built with, as the builder recorded them."""
    attestations: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Statements of in-toto by predicate type."""

    @property
    def provenance(self) -> Mapping[str, Any] | None:
        """The predicate of the SLSA provenance, where it has one."""
        for predicate_type, statement in self.attestations.items():
            if predicate_type.startswith("https://slsa.dev/provenance/"):
                predicate: Mapping[str, Any] = statement["predicate"]
                return predicate
        return None


@dataclass(frozen=True)
class StoredImage:
    """An image with all its platforms."""

    reference: str
    digest: str
    """Digest of the index, or of the manifest where the image has no index."""
    index: bool
    """True if there is an index over the platforms (and their attestations)."""
    platforms: tuple[StoredPlatform, ...]

    def platform(self, name: str) -> StoredPlatform | None:
        """Take one platform, such as `linux/arm64`."""
        return next((entry for entry in self.platforms if entry.platform == name), None)


def read(reference: str) -> StoredImage | None:
    """Read an image of the engine's store.

    Args:
        reference: a tag or digest that the engine knows.

    Returns:
        None where the engine has no such image. Platforms of an index whose content is not here
        are left out.

    Raises:
        UserError: no engine answers, or it cannot export the image.
    """
    with closing(connection.connect()) as client:
        try:
            identity = client.images.get(reference).id or ""
        except ImageNotFound:
            return None
    kept = _path(identity)
    if kept.is_file():
        return _revive(reference, json.loads(kept.read_text(encoding="utf-8")))
    image = _interpret(reference, _documents(reference))
    # With the classic store the identity is the configuration's, which says nothing of platforms.
    if identity == image.digest:
        _keep(image)
    return image


def recall(digests: Sequence[str]) -> tuple[StoredPlatform, ...] | None:
    """Recall what was read before, without asking the engine.

    Args:
        digests: of manifests.

    Returns:
        The platforms without their attestations, which every build makes anew; None where one of
        the digests, or all of them, are unknown.
    """
    kept = [_path(digest) for digest in digests]
    if not kept or not all(path.is_file() for path in kept):
        return None
    return tuple(_platform_of(json.loads(path.read_text(encoding="utf-8"))) for path in kept)


def _path(digest: str) -> Path:
    return current().kept("platforms") / f"{digest.replace(':', '-')}.json"


def _keep(image: StoredImage) -> None:
    documents = {image.digest: asdict(image)}
    for platform in image.platforms if image.index else ():
        documents[platform.digest] = asdict(replace(platform, attestations={}))
    for digest, document in documents.items():
        files.write_atomically(_path(digest), json.dumps(document))


def _revive(reference: str, document: Mapping[str, Any]) -> StoredImage:
    platforms = tuple(map(_platform_of, document["platforms"]))
    return StoredImage(reference, document["digest"], document["index"], platforms)


def _platform_of(document: Mapping[str, Any]) -> StoredPlatform:
    lists = {name: tuple(document[name]) for name in ("layers", "history")}
    return StoredPlatform(**{**document, **lists})


def _documents(reference: str) -> dict[str, Any]:
    """Export an image and keep its JSON documents: `index.json`, and the others by digest."""
    with export.files(reference) as exported:
        found = {
            file.digest or file.name: _parse(file.content.read())
            for file in exported
            if file.size <= _LARGEST_DOCUMENT
        }
    return {name: document for name, document in found.items() if document is not None}


def _parse(content: bytes) -> Any:  # noqa: ANN401 - JSON
    if content[:1] not in (b"{", b"["):
        return None  # a small layer
    try:
        return json.loads(content)
    except ValueError:
        return None


def _interpret(reference: str, documents: Mapping[str, Any]) -> StoredImage:
    if "index.json" not in documents:
        raise UserError(
            f"{reference} was exported without an index: the engine does not use the containerd "
            f"image store, run {command('doctor')}"
        )
    (root,) = documents["index.json"]["manifests"][:1]
    digest = root["digest"]
    index = root.get("mediaType") in _INDEX_TYPES
    children = documents[digest]["manifests"] if index else [root]
    attestations: dict[str, dict[str, Any]] = {}
    for child in children:
        annotations = child.get("annotations", {})
        if _ATTESTATION in annotations and child["digest"] in documents:
            attestations[annotations[_ATTESTED]] = {
                layer["annotations"][_PREDICATE]: documents[layer["digest"]]
                for layer in documents[child["digest"]]["layers"]
                if layer["digest"] in documents
            }
    platforms = tuple(
        _platform(child["digest"], documents, attestations.get(child["digest"], {}))
        for child in children
        if _ATTESTATION not in child.get("annotations", {}) and child["digest"] in documents
    )
    return StoredImage(reference, digest, index, platforms)


def _platform(
    digest: str, documents: Mapping[str, Any], attestations: Mapping[str, Any]
) -> StoredPlatform:
    manifest = documents[digest]
    configuration = documents[manifest["config"]["digest"]]
    config = configuration.get("config", {})
    return StoredPlatform(
        platform=f"{configuration['os']}/{configuration['architecture']}",
        digest=digest,
        size=manifest["config"]["size"] + sum(layer["size"] for layer in manifest["layers"]),
        layers=tuple(layer["digest"] for layer in manifest["layers"]),
        labels=config.get("Labels") or {},
        config=config,
        history=tuple(step.get("created_by", "") for step in configuration.get("history", ())),
        attestations=attestations,
    )
