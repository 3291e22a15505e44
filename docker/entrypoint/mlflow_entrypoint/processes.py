"""Tell the process that serves from others."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_entrypoint.handover import Command

PREFIX = "_MLFLOW_STATIC_PREFIX"
"""MLflow's own variable for the prefix of the server's paths."""
_MODULES = ("uvicorn", "gunicorn", "waitress")
_NOTE = "mlflow-server"


def serves(arguments: list[str]) -> bool:
    """Whether these are the arguments of the process that `mlflow server` starts to serve.

    They can follow those of an emulator.
    """
    return any(first == "-m" and second in _MODULES for first, second in pairwise(arguments))


def announce(command: Command) -> None:
    """Leave word in the process table that this process does what `command` says.

    Its own arguments don't say so. The note is a file in memory, which it keeps open: nothing need
    be writable, and the note ends with the process.
    """
    words = [f"{PREFIX}={command.environment.get(PREFIX, '')}", *command.words]
    os.write(os.memfd_create(_NOTE), "\0".join(words).encode(errors="surrogateescape"))


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
