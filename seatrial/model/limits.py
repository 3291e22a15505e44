"""Limits of a model's size: nobody knows beforehand what a folder or a server holds."""

from __future__ import annotations

from dataclasses import dataclass

from seatrial.errors import UserError

GIB = 1 << 30
MOST_FILES = 20_000
DEEPEST = 32
"""Folders in one another."""
MOST_SECONDS = 3600
"""Time limit of a download, in seconds."""
_LONGEST_PATH = 1024


@dataclass
class Budget:
    """Remainder of the limits while a model's files are counted.

    Args:
        gib: the most that all files together may have, in units of 2^30 bytes.
    """

    gib: int
    files: int = 0
    used: int = 0

    @property
    def left(self) -> int:
        """Bytes."""
        return self.gib * GIB - self.used

    def take(self, path: str, size: int) -> None:
        """Count a file.

        Args:
            path: relative to the model's folder.
            size: bytes.

        Raises:
            UserError: the model has more files, or more bytes, than it may.
        """
        self.files += 1
        self.used += size
        if self.files > MOST_FILES:
            raise UserError(
                f"the model has more than {MOST_FILES} files and folders: log it with fewer, such"
                " as an archive"
            )
        if self.left < 0:
            raise UserError(
                f"the model has more than {self.gib} GiB (at {path!r}): --max-gib allows more"
            )


def require_name(path: str) -> None:
    """See that a file may have this name, relative to the model's folder, with `/` between parts.

    Raises:
        UserError: the name leaves the folder, is too deep, or is no printable text.
    """
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise UserError(
            f"the model is refused: {path[:_LONGEST_PATH]!r} is a name outside its folder; log the"
            " model anew"
        )
    if len(parts) > DEEPEST:
        raise UserError(
            f"the model is refused: it has more than {DEEPEST} folders in one another; log it with"
            " fewer"
        )
    if not path.isprintable() or len(path) > _LONGEST_PATH:
        raise UserError(
            f"the model is refused: the name {path[:80]!r} is not printable text of at most"
            f" {_LONGEST_PATH} characters; rename the file and log the model anew"
        )
