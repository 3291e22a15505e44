"""The modules of an image with a mutant's changes, as files to mount over its own.

Text is replaced by text: nothing of the image runs here.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from docker.errors import NotFound

from seatrial.engine import container_files
from seatrial.engine.connection import connect
from seatrial.errors import UserError
from seatrial.stack.labels import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from docker import DockerClient

    from seatrial.catalogue import Image
    from seatrial.mutants.mutant import Mutant, SourceChange

_SITE = "/opt/mlflow/lib/python3.13/site-packages"
_CACHED = "__pycache__/{module}.cpython-313.pyc"
"""Beside a module: its bytecode."""


def write_all(mutants: Iterable[Mutant], variants: Mapping[str, Image], folder: Path) -> None:
    """Write the changed modules of each mutant that has some to a folder of its name.

    Args:
        mutants: some of them may have none.
        variants: by name.
        folder: gets the folders.

    Raises:
        UserError: a change no longer fits what it changes.
    """
    with closing(connect()) as client:
        for mutant in mutants:
            if mutant.changes:
                write(client, mutant, variants[mutant.variant].reference, folder / mutant.name)


def write(client: DockerClient, mutant: Mutant, reference: str, folder: Path) -> None:
    """Write the changed modules below `folder`, at their paths in the image.

    Args:
        client: the engine that has the image.
        mutant: with changes of code.
        reference: of the image that it is like.
        folder: made anew.

    Raises:
        UserError: a text is not there exactly once, or what comes of it is no Python.
    """
    for change in mutant.changes:
        place = folder / _SITE.lstrip("/") / change.file
        if not place.exists():
            # The bytecode that the image brings is not checked against the source. Python takes an
            # empty file for none, and compiles the source.
            bytecode = place.parent / _CACHED.format(module=place.stem)
            bytecode.parent.mkdir(parents=True, exist_ok=True)
            bytecode.touch()
            place.write_text(_read(client, reference, f"{_SITE}/{change.file}"), encoding="utf-8")
        try:
            place.write_text(applied(change, place.read_text("utf-8")), encoding="utf-8")
        except UserError as error:
            raise UserError(f"the mutant {mutant.name} does not fit {reference}: {error}") from None
    # Any user of the image reads them, whatever the umask is here.
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def applied(change: SourceChange, text: str) -> str:
    """The text of a module with a change.

    Raises:
        UserError: what is to be changed is not there exactly once, or what comes of it is no
            Python.
    """
    if (found := text.count(change.before)) != 1:
        first = change.before.strip().splitlines()[0].strip()
        raise UserError(f"{change.file} holds this {found} times, not once: {first}")
    changed = text.replace(change.before, change.after)
    try:
        compile(changed, change.file, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise UserError(f"{change.file} is no Python any more: {error}") from None
    return changed


def _read(client: DockerClient, reference: str, path: str) -> str:
    """Read a file of an image, by a container that is never started."""
    container = client.containers.create(reference, command=["true"], labels=Session.begin().labels)
    try:
        [(_, content)] = container_files.files(container, path)
    except NotFound:
        raise UserError(f"{reference} has no {path}") from None
    finally:
        container.remove(v=True)
    return content.decode("utf-8")
