"""Files of containers, whether they run or not, on engines elsewhere too."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container


def files(container: Container, path: str) -> Iterator[tuple[str, bytes]]:
    """The files of a folder, by their paths below it; a single file has none.

    Raises:
        docker.errors.NotFound: there is no such path.
    """
    chunks, _ = container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        for member in archive:
            if member.isfile() and (file := archive.extractfile(member)):
                yield member.name.partition("/")[2], file.read()
