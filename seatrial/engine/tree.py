"""State of every path below a folder, and how to restore it."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PathType = Literal["file", "folder", "link", "other"]
_PATH_TYPES: dict[int, PathType] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
}


@dataclass(frozen=True)
class PathState:
    """State of a path; times of change do not count for equality."""

    path_type: PathType
    mode: int
    uid: int
    gid: int
    content: str = ""
    """SHA-256 of a file, target of a link."""
    changed: int = field(default=0, compare=False)
    """Nanoseconds since 1970."""


Tree = dict[str, PathState]
"""Entries by path below the folder; the folder itself is `.`."""


def capture(root: Path, *, without: Iterable[str] = (), keep: Path | None = None) -> Tree:
    """Describe everything below a folder.

    Args:
        root: the folder.
        without: paths below it that are left out.
        keep: a folder that gets a copy of every file's content, named by its SHA-256.
    """
    left_out = set(without)
    found: Tree = {".": entry(root, keep)}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            relative = str(path.relative_to(root))
            if relative not in left_out:
                found[relative] = entry(path, keep)
    return found


def entry(path: Path, keep: Path | None = None) -> PathState:
    """Describe one path, which must exist; links are not followed."""
    status = path.lstat()
    path_type = _PATH_TYPES.get(stat.S_IFMT(status.st_mode), "other")
    content = ""
    if path_type == "link":
        content = str(path.readlink())
    elif path_type == "file":
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        if keep is not None and not (keep / content).exists():
            shutil.copyfile(path, keep / content)
    return PathState(
        path_type=path_type,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        content=content,
        changed=status.st_mtime_ns,
    )


def put_back(root: Path, wanted: Mapping[str, PathState | None], kept: Path) -> None:
    """Restore earlier states of paths.

    Args:
        root: the folder.
        wanted: None for a path that did not exist. Folders that are not empty stay.
        kept: the contents, as `capture` kept them.
    """
    for name in sorted((name for name, state in wanted.items() if state is None), reverse=True):
        _remove(root / name)
    for name, state in sorted(wanted.items()):
        if state is not None:
            _make(root / name, state, kept)


def put_times_back(root: Path, wanted: Mapping[str, int]) -> None:
    """Set times of change, in nanoseconds; those of folders after what is in them."""
    for name, changed in sorted(wanted.items(), reverse=True):
        os.utime(root / name, ns=(changed, changed), follow_symlinks=False)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        if not any(path.iterdir()):
            path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _make(path: Path, state: PathState, kept: Path) -> None:
    if state.path_type == "folder":
        if not path.is_dir() or path.is_symlink():
            path.unlink(missing_ok=True)
            path.mkdir()
        os.chown(path, state.uid, state.gid)
        path.chmod(state.mode)
        return
    if state.path_type == "other":
        return
    new = path.with_name(f".{path.name}.seatrial-new")
    new.unlink(missing_ok=True)
    if state.path_type == "link":
        new.symlink_to(state.content)
    else:
        new.touch(mode=0o600)  # first, as others must not read the content
        shutil.copyfile(kept / state.content, new)
    os.chown(new, state.uid, state.gid, follow_symlinks=False)
    if state.path_type == "file":
        new.chmod(state.mode)  # a change of owner clears the set-user-id bits
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    new.replace(path)
