"""The files of an image that the engine exports (`docker save`), as an OCI layout."""

from __future__ import annotations

import subprocess
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOBS = "blobs/sha256/"


@dataclass(frozen=True)
class ExportedFile:
    """A file of the layout: a blob, `index.json`, `oci-layout` or `manifest.json`."""

    name: str
    """Path in the layout."""
    size: int
    """Bytes."""
    content: IO[bytes]
    """Can be read until the next file is asked for."""

    @property
    def digest(self) -> str:
        """Digest of a blob; empty for any other file."""
        is_blob = self.name.startswith(_BLOBS)
        return f"sha256:{self.name.removeprefix(_BLOBS)}" if is_blob else ""


@contextmanager
def files(reference: str) -> Iterator[Iterator[ExportedFile]]:
    """Export an image file by file; a caller that has what it needs may stop early.

    Raises:
        UserError: the engine fails to export it.
    """
    command = ["docker", "save", reference]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as export:
        assert export.stdout
        assert export.stderr
        try:
            with tarfile.open(fileobj=export.stdout, mode="r|") as archive:
                yield _files(archive)
        except tarfile.ReadError as error:
            export.stdout.close()  # else a client that still writes would never end
            reason = export.stderr.read().decode(errors="replace").strip() or str(error)
            raise UserError(f"{reference} cannot be read from the engine: {reason}") from error


def blobs(reference: str) -> Iterator[ExportedFile]:
    """Export the blobs of an image: manifests, configurations, attestations and layers.

    Raises:
        UserError: the engine fails to export it.
    """
    with files(reference) as exported:
        yield from (file for file in exported if file.digest)


def _files(archive: tarfile.TarFile) -> Iterator[ExportedFile]:
    for member in archive:
        if member.isfile() and (content := archive.extractfile(member)):
            yield ExportedFile(member.name, member.size, content)
