"""`mlflow models serve` in an image without a shell.

MLflow starts the server of a model by `bash -c "exec uvicorn ..."`. The command needs no shell, so
where there is none this process becomes the server itself.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from typing import TYPE_CHECKING

from mlflow_entrypoint import handover

if TYPE_CHECKING:
    from mlflow_entrypoint.processes import ServerCommand

_SHELL = "bash"


def is_asked_for(rest: list[str]) -> bool:
    """Tell whether a subcommand, with what follows it, serves a model."""
    return rest[:2] == ["models", "serve"]


def prepare() -> None:
    """Wait for the moment at which MLflow wants the shell, and become the server."""
    if shutil.which(_SHELL):
        return

    def on_start(command: ServerCommand) -> None:
        if command.words[:2] != [_SHELL, "-c"]:
            return
        first, program, *rest = shlex.split(command.words[2])
        if (first, program) == ("exec", "uvicorn"):
            words = [sys.executable, "-m", program, *rest]
            handover.become(command._replace(words=words))

    handover.watch_starts(on_start)
