"""Files that other processes read while they are written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_atomically(path: Path, text: str, *, mode: int | None = None) -> None:
    """Write a file that readers see as it was or as it will be, never in part.

    Args:
        path: the file.
        text: the whole content.
        mode: permission bits; what the umask leaves if None.
    """
    # The process id keeps writers of one file apart.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    if mode is not None:
        partial.chmod(mode)
    partial.replace(path)
