"""Copying a model's folder without following what it holds."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NoReturn

from seatrial.errors import UserError
from seatrial.model.limits import Budget, require_name

if TYPE_CHECKING:
    from pathlib import Path

_PIECE = 1 << 20


def copy(source: Path, target: Path, budget: Budget) -> None:
    """Copy the regular files and the folders of a folder; their content and names, nothing else.

    Every name is opened relative to the folder that it was read from and without following a link,
    so that a link which takes a file's place meanwhile is refused as well.

    Args:
        source: a folder, itself no link.
        target: is made.
        budget: what the files may have.

    Raises:
        UserError: there is something else in it than files and folders, or too much.
        OSError: names the file that cannot be read, or the one that cannot be written.
    """
    top = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _copy_folder(top, source, target, "", budget)
    finally:
        os.close(top)


def _copy_folder(folder: int, source: Path, target: Path, below: str, budget: Budget) -> None:
    target.mkdir()
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        path = f"{below}{name}"
        require_name(path)
        here = source / name
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            _raise_named(error, here)
        if stat.S_ISLNK(found.st_mode):
            raise UserError(
                f"{here} is a link to {_link(folder, name)!r}, and links are not followed: put what"
                " it names into the model in its place"
            )
        if stat.S_ISDIR(found.st_mode):
            budget.take(path, 0)
            inner = _open(folder, name, here, os.O_DIRECTORY)
            try:
                _copy_folder(inner, here, target / name, f"{path}/", budget)
            finally:
                os.close(inner)
        elif stat.S_ISREG(found.st_mode):
            budget.take(path, found.st_size)
            if found.st_nlink > 1:
                raise UserError(
                    f"{here} has another name outside the model, or twice in it (a hard link): copy"
                    " the model's folder with `cp -r`, and give the copy"
                )
            _copy_file(_open(folder, name, here, os.O_NONBLOCK), here, target / name, found)
        else:
            raise UserError(f"{here} is neither a file nor a folder: remove it from the model")


def _open(folder: int, name: str, here: Path, flags: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | flags, dir_fd=folder)
    except OSError as error:
        _raise_named(error, here)


def _copy_file(file: int, here: Path, target: Path, found: os.stat_result) -> None:
    """Copy as many bytes as were counted."""
    with os.fdopen(file, "rb") as reading:
        now = os.fstat(file)
        if (now.st_dev, now.st_ino) != (found.st_dev, found.st_ino):
            raise UserError(f"{here} was replaced while the model was copied: try again")
        left = found.st_size
        try:
            with target.open("xb") as writing:
                while left and (piece := reading.read(min(_PIECE, left))):
                    writing.write(piece)
                    left -= len(piece)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                error.filename = str(target)
                raise
            _raise_named(error, here)


def _raise_named(error: OSError, here: Path) -> NoReturn:
    """Raise an error that names the file: one of a descriptor names none, or less than its path."""
    error.filename = str(here)
    raise error


def _link(folder: int, name: str) -> str:
    return os.readlink(name, dir_fd=folder)
