"""Tell the process that serves from others."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import NamedTuple

PREFIX = "_MLFLOW_STATIC_PREFIX"
"""MLflow's own variable for the prefix of the server's paths."""
_MODULES = ("uvicorn", "gunicorn", "waitress")
_NOTE = "mlflow-server"
_NEVER_EXECUTED = 0x0008
"""MFD_NOEXEC_SEAL, which a kernel may insist on (vm.memfd_noexec) and Python has no name for."""


class ServerCommand(NamedTuple):
    """Command line and environment of a process that serves."""

    words: list[str]
    """The program first."""
    environment: dict[str, str]
    """Environment variables, all of them."""


def serves(arguments: list[str]) -> bool:
    """Tell whether these are the arguments of the process that `mlflow server` starts to serve.

    They can follow those of an emulator.
    """
    return any(first == "-m" and second in _MODULES for first, second in pairwise(arguments))


def announce(command: ServerCommand) -> None:
    """Leave word in the process table that this process does what `command` says.

    Its own arguments don't say so. The note is a file in memory, which it keeps open: nothing need
    be writable, and the note ends with the process.
    """
    words = [f"{PREFIX}={command.environment.get(PREFIX, '')}", *command.words]
    os.write(_note(), "\0".join(words).encode(errors="surrogateescape"))


def _note() -> int:
    try:
        return os.memfd_create(_NOTE, os.MFD_CLOEXEC | _NEVER_EXECUTED)
    except OSError:
        return os.memfd_create(_NOTE, os.MFD_CLOEXEC)  # before Linux 6.3


def announced(process: str) -> list[str] | None:
    """What the process whose folder in the process table this is has left word of.

    Raises:
        OSError: it has ended, or is somebody else's.
    """
    for name in os.listdir(f"{process}/fd"):  # noqa: PTH208 - health loads little
        if os.readlink(f"{process}/fd/{name}").startswith(f"/memfd:{_NOTE}"):  # noqa: PTH115
            with open(f"{process}/fd/{name}", "rb") as file:  # noqa: PTH123
                return file.read().decode(errors="replace").split("\0")
    return None
