"""Surroundings of models where they run: a folder to write to, a home, and a user's name.

Confined, a container has a read-only root, a uid without a line in /etc/passwd, and /tmp. Models
log to files, keep caches and ask who they are all the same.
"""

from __future__ import annotations

import os
import pwd
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_USER = ("LOGNAME", "USER")
"""Variables at which `getpass.getuser` looks before it asks the user database."""


def prepare(environment: MutableMapping[str, str]) -> None:
    """Change to a folder that can be written to, and name a home and a user, where there is none.

    Args:
        environment: gets HOME, USER and LOGNAME.
    """
    try:
        writable = tempfile.gettempdir()
    except FileNotFoundError:
        return  # nothing at all can be written to
    if not _is_writable(environment.get("HOME", "")):
        environment["HOME"] = writable
    if not _is_writable("."):
        os.chdir(writable)
    if not (any(map(environment.get, _USER)) or _is_known(os.getuid())):
        environment.update(dict.fromkeys(_USER, str(os.getuid())))


def _is_writable(folder: str) -> bool:
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)  # noqa: PTH112


def _is_known(user: int) -> bool:
    try:
        pwd.getpwuid(user)
    except KeyError:
        return False
    return True
