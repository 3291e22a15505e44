"""Files and folders that nobody else on this machine may read, whatever the umask says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FILE, FOLDER = 0o600, 0o700


def make_folder(path: Path) -> None:
    """Make a folder, if it isn't there, and keep others out of it."""
    path.mkdir(mode=FOLDER, parents=True, exist_ok=True)
    path.chmod(FOLDER)


def write(path: Path, text: str) -> None:
    """Write a file that was never readable for others, not even while it was empty."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE), "wb") as file:
        os.fchmod(file.fileno(), FILE)
        file.write(text.encode())
