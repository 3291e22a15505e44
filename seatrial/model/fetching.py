"""Bringing a model here, wherever it is kept; nothing of it is executed or followed."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import url2pathname

from seatrial import process
from seatrial.errors import UserError, printable, without_password
from seatrial.model import description
from seatrial.model.copying import copy
from seatrial.model.limits import MOST_SECONDS, Budget
from seatrial.project import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Iterable

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_FILE = re.compile(r"file:(?://[^/]*)?", re.IGNORECASE)
_READABLE, _SEARCHABLE = 0o644, 0o755
MAX_GIB = 16


def fetch(uri: str, tracking_uri: str, target: Path, *, max_gib: int = MAX_GIB) -> Path:
    """Copy a model to this machine, readable to everybody: nobody knows whom the image runs as.

    Args:
        uri: `models:/...`, `runs:/...`, another address that MLflow reads, or a folder.
        tracking_uri: of the tracking server; empty for what MLflow's own variables say.
        target: an empty folder.
        max_gib: the most that the model's files may have, in units of 2^30 bytes.

    Returns:
        the model's folder, in `target`.

    Raises:
        UserError: it is not there, cannot be reached, or holds what is refused.
        OSError: the disk is full.
    """
    match = _SCHEME.match(uri)
    scheme = match[1].lower() if match else ""
    folder = target / "model"
    if scheme in ("", "file"):
        source = url2pathname(_FILE.sub("", uri, count=1)) if scheme else uri
        _copied(Path(source), without_password(uri), folder, max_gib)
    else:
        _downloaded(uri, tracking_uri, folder, max_gib)
    for path in (folder, *folder.rglob("*")):
        path.chmod(_SEARCHABLE if path.is_dir() else _READABLE)
    return folder


def hide_passwords(folder: Path, names: Iterable[str]) -> None:
    """Take users and passwords of addresses out of files that name package indexes.

    Args:
        folder: the copy of a model, as `fetch` gives it; an image gets it as it is.
        names: the files, relative to the folder; UTF-8.
    """
    for path in (folder / name for name in names):
        text = path.read_bytes().decode()
        path.write_bytes(without_password(text).encode())


def _copied(source: Path, uri: str, target: Path, max_gib: int) -> None:
    try:
        # A link to the folder is the caller's own; those inside are the model's.
        source = source.resolve()
        if not source.is_dir():
            raise UserError(f"there is no model at {uri}: it is not a folder of this machine")
        if not any(source.iterdir()):
            raise UserError(f"there is no model at {uri}: the folder is empty")
        # A whole working directory is copied for minutes, to find that it is none.
        if not (source / description.MLMODEL).is_symlink():
            description.require_model(source, uri)
        copy(source, target, Budget(max_gib))
    except (OSError, ValueError) as error:  # a path with NUL is a ValueError
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        name, why = getattr(error, "filename", uri), getattr(error, "strerror", str(error))
        raise UserError(f"the model {uri} cannot be copied: {name}: {why}") from error


def _downloaded(uri: str, tracking_uri: str, target: Path, max_gib: int) -> None:
    """Download in a process of its own, whose memory, files and time have limits.

    MLflow's client reads whole answers into memory, and keeps settings for the whole process.
    """
    order = {
        "uri": uri,
        "tracking_uri": tracking_uri,
        "target": str(target),
        "max_gib": max_gib,
    }
    path = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
    try:
        done = process.run(
            [sys.executable, "-m", "seatrial.model.download"],
            environment={**os.environ, "PYTHONPATH": path},
            text=json.dumps(order),
            seconds=MOST_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"the model {without_password(uri)} cannot be had: it did not arrive within "
            f"{MOST_SECONDS} seconds; download it, and give the folder"
        ) from error
    if done.returncode:
        lines = done.stdout.splitlines() or done.stderr.splitlines() or [""]
        why = lines[-1] or f"the download ended with exit code {done.returncode}"
        raise UserError(printable(without_password(why)))
