"""Attach documents to a digest, as the OCI distribution specification's referrers."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from seatrial.errors import UserError
from seatrial.registry.client import INDEX, MANIFEST, fallback_tag, manifest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seatrial.registry.client import Manifest, Repository

_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_EMPTY = b"{}"
LARGEST_DOCUMENT = 64 << 20
"""Bytes of an attached document."""
MOST_DOCUMENTS = 50
"""Of one type, attached to a digest. Each trial that is published adds one."""


@dataclass(frozen=True)
class Attachment:
    """A document that belongs to a digest."""

    artifact_type: str
    """Media type by which it is found."""
    content: bytes = field(repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)


def attach(target: Repository, subject: Manifest, attachment: Attachment) -> str:
    """Attach a document; the same one a second time changes nothing.

    Returns:
        The digest of its manifest.
    """
    parts = []
    for media_type, content in (
        (_EMPTY_TYPE, _EMPTY),
        (attachment.artifact_type, attachment.content),
    ):
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if not target.has(digest):
            target.push_blob(digest, len(content), io.BytesIO(content))
        parts.append({"mediaType": media_type, "digest": digest, "size": len(content)})
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": attachment.artifact_type,
        "config": parts[0],
        "layers": [parts[1]],
        "subject": subject.descriptor,
        "annotations": dict(attachment.annotations),
    }
    # No time in it: the same document has the same digest.
    manifest = manifest_of(json.dumps(document, sort_keys=True).encode(), MANIFEST)
    if all(entry.get("digest") != manifest.digest for entry in target.referrers(subject.digest)):
        headers = target.push_manifest(manifest)
        if "OCI-Subject" not in headers:
            _list_in_tag(target, subject, manifest, attachment)
    return manifest.digest


def _list_in_tag(
    target: Repository, subject: Manifest, manifest: Manifest, attachment: Attachment
) -> None:
    """Keep the list that a registry without the API for it doesn't keep itself."""
    entry = manifest.descriptor | {
        "artifactType": attachment.artifact_type,
        "annotations": dict(attachment.annotations),
    }
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [*target.referrers(subject.digest), entry],
    }
    target.push_manifest(
        manifest_of(json.dumps(index).encode(), INDEX), fallback_tag(subject.digest)
    )


def attached(source: Repository, digest: str, artifact_type: str) -> list[tuple[str, bytes]]:
    """Fetch the documents of one type that are attached to a digest.

    Returns:
        The digest of each one's manifest, and its content.

    Raises:
        UserError: what is attached is not what its digest says, too large, or broken.
    """
    found = []
    entries = source.referrers(digest)
    listed = [entry for entry in entries if entry.get("artifactType") == artifact_type]
    if len(listed) > MOST_DOCUMENTS:
        raise UserError(f"{source.reference.at(digest)}: more than {MOST_DOCUMENTS} are attached")
    for entry in listed:
        name = str(entry.get("digest"))
        manifest = source.manifest(name)
        if manifest is None:
            raise UserError(f"{source.reference.name}@{name}: listed, but not there")
        subject, layer = _parts(manifest)
        if subject != digest:
            raise UserError(f"{source.reference.name}@{name}: attached to {subject or 'nothing'}")
        if layer["size"] > LARGEST_DOCUMENT:
            raise UserError(
                f"{source.reference.name}@{name}: larger than {LARGEST_DOCUMENT >> 20} MiB"
            )
        for _, stream in source.blobs({layer["digest"]: layer["size"]}):
            content = b""
            while piece := stream.read():
                content += piece
            found.append((name, content))
    return found


def _parts(manifest: Manifest) -> tuple[str, dict[str, Any]]:
    """The digest of its subject, and the descriptor of its document."""
    document = manifest.document
    try:
        subject, (layer,) = document["subject"]["digest"], document["layers"]
        return str(subject), {"digest": str(layer["digest"]), "size": int(layer["size"])}
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{manifest.digest}: no attachment with one document") from None
