"""A Python script in a container of its own, without a network."""

from __future__ import annotations

import io
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests

from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from docker import DockerClient
    from docker.models.containers import Container

    from seatrial.stack.labels import Session

FOLDER = "/tmp"
"""Folder of the files: every image lets its user write there."""
_TIME_LIMIT = 180


@contextmanager
def ended(
    client: DockerClient,
    session: Session,
    reference: str,
    command: Sequence[str],
    *,
    files: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
    limits: Mapping[str, Any] | None = None,
) -> Iterator[tuple[Container, str]]:
    """Run a script to its end, and give its container, which is removed after the block.

    Args:
        client: of the engine.
        session: whose the container is.
        reference: of the image.
        command: the image's Python with its arguments, in place of the entry point.
        files: put into `FOLDER`.
        environment: variables beside the image's own.
        limits: of the container, as arguments of the docker SDK.

    Yields:
        the container, and the last line that the script printed.

    Raises:
        UserError: the script failed, or did not end in time.
    """
    container = client.containers.create(
        reference,
        entrypoint=list(command[:1]),
        command=list(command[1:]),
        environment=dict(environment or {}),
        labels=session.labels,
        network_mode="none",
        **(limits or {}),
    )
    try:
        if files:
            container.put_archive(FOLDER, _archive(files))
        container.start()
        try:
            code = container.wait(timeout=_TIME_LIMIT)["StatusCode"]
        except requests.RequestException as error:  # what the client makes of the time limit
            raise UserError(
                f"a script in {reference} has not ended after {_TIME_LIMIT} s"
            ) from error
        if code:
            printed = container.logs().decode(errors="replace").splitlines() or ["nothing"]
            raise UserError(f"a script in {reference} failed; its last line: {printed[-1]}")
        printed = container.logs(stderr=False).decode().splitlines()
        yield container, printed[-1]
    finally:
        container.remove(force=True, v=True)


def _archive(files: Sequence[Path]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path in files:
            archive.add(path, path.name)
    return content.getvalue()
