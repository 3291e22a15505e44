"""The moment at which `mlflow server` has made everything ready and starts the process that serves.

MLflow starts uvicorn, or another server, as a child and waits for it, with all of MLflow loaded for
a second time and with exit code 0 whatever becomes of the child. So that process takes the place of
`mlflow server` here: its exit code and its signals are its own.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from mlflow_entrypoint.errors import say
from mlflow_entrypoint.processes import serves
from mlflow_entrypoint.secrecy import mask

if TYPE_CHECKING:
    from contextlib import ExitStack


def prepare(lock: ExitStack | None, *, replace: bool) -> None:
    """Wait for that moment: then give `lock` back, and become the process that serves.

    Args:
        lock: of the database, where one is held.
        replace: not where MLflow has more to start after it, such as background jobs.
    """
    held = [lock] if lock else []

    def heed(event: str, details: tuple[Any, ...]) -> None:
        if event != "subprocess.Popen":
            return
        program, arguments, _, environment = details
        words = [os.fsdecode(word) for word in arguments]
        if not serves(words):
            return
        while held:
            _release(held.pop())
        if replace:
            sys.stdout.flush()
            sys.stderr.flush()
            os.execve(program, words, environment or os.environ)  # noqa: S606

    sys.addaudithook(heed)


def _release(lock: ExitStack) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        lock.close()
    except SQLAlchemyError as error:
        # The session is lost, and with it the lock.
        say(f"the lock in the database was lost early: {mask(str(error))}")
