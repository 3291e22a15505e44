"""`mlflow models serve` in an image without a shell.

MLflow starts the server of a model by `bash -c "exec uvicorn ..."`. The command needs no shell, so
where there is none this process becomes the server itself.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import Any

_SHELL = "bash"


def is_asked_for(rest: list[str]) -> bool:
    """Whether a subcommand, with what follows it, serves a model."""
    return rest[:2] == ["models", "serve"]


def prepare() -> None:
    """Wait for the moment at which MLflow wants the shell, and become the server."""
    if shutil.which(_SHELL):
        return

    def heed(event: str, details: tuple[Any, ...]) -> None:
        if event != "subprocess.Popen":
            return
        _, arguments, _, environment = details
        words = [os.fsdecode(word) for word in arguments]
        if words[:2] != [_SHELL, "-c"]:
            return
        first, program, *rest = shlex.split(words[2])
        if (first, program) == ("exec", "uvicorn"):
            sys.stdout.flush()
            sys.stderr.flush()
            command = [sys.executable, "-m", "uvicorn", *rest]
            os.execve(sys.executable, command, environment or os.environ)  # noqa: S606

    sys.addaudithook(heed)
