"""Folders for what is only needed while a program runs; none stays, not even of a killed one.

Whoever made a folder holds a lock on it, which the kernel releases with the process: a folder that
nobody holds is removed when the next one is made, whatever PID namespace its maker was in.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARIABLE = "TMPDIR"
_PREFIX = "seatrial."
"""Short: the paths of sockets below it have a limit of 107 bytes."""


@contextmanager
def folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder that only this user may read; it goes with the block.

    Args:
        parent: where it is made; the folder for temporary files if None.
    """
    place = parent or Path(tempfile.gettempdir())
    remove_abandoned(place)
    path, handle = _held(place)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # what is left of it goes with the next one
        os.close(handle)


@contextmanager
def for_temporary_files() -> Iterator[Path]:
    """Put everything that this process and its programs would put into /tmp into one folder.

    MLflow's client leaves a folder for each artifact that it fetches, pytest keeps those of its
    last three runs, and a program that is killed leaves all of its own. Programs that outlive this
    process must not be started here.
    """
    before = os.environ.get(_VARIABLE)
    with folder() as place:
        # mmdebstrap's and apt's own users must get through.
        place.chmod(0o711)
        os.environ[_VARIABLE] = str(place)
        tempfile.tempdir = None  # what was found out before
        try:
            yield place
        finally:
            del os.environ[_VARIABLE]
            if before is not None:
                os.environ[_VARIABLE] = before
            tempfile.tempdir = None


def remove_abandoned(place: Path) -> list[Path]:
    """Remove what killed processes left.

    Args:
        place: where the folders are made.

    Returns:
        The folders that are gone.
    """
    removed = []
    for path in place.glob(f"{_PREFIX}*"):
        # Another user's folder, or one that has just gone.
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(handle).st_uid == os.geteuid():
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path)
                    removed.append(path)
            finally:
                os.close(handle)
    return removed


def is_held(path: Path) -> bool:
    """Tell whether a folder is one of a process that still runs."""
    if not path.name.startswith(_PREFIX):
        return False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _held(place: Path) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        # Another process may take it for abandoned before the lock is held.
        with suppress(FileNotFoundError):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if path.exists():
                return path, handle
            os.close(handle)
