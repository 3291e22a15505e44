"""The moment at which `mlflow server` has made everything ready and starts the process that serves.

MLflow starts uvicorn, or another server, as a child and waits for it, with all of MLflow loaded for
a second time and with exit code 0 whatever becomes of the child. So somebody else takes over here:
the process itself by becoming the one that serves, or one that has loaded MLflow meanwhile
(`preloading`). Its exit code and its signals are its own.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from mlflow_entrypoint.databases import reason_of
from mlflow_entrypoint.errors import say
from mlflow_entrypoint.processes import ServerCommand, serves

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack


_KEY_PASSWORD = "--ssl-keyfile-password"  # noqa: S105
_KEY_PASSWORD_VARIABLE = "UVICORN_SSL_KEYFILE_PASSWORD"  # noqa: S105


def prepare(
    lock: ExitStack | None,
    started: Callable[[], None],
    take_over: Callable[[ServerCommand], None] | None,
) -> None:
    """Wait for that moment: then give `lock` back, and hand over.

    Args:
        lock: of the database, where one is held.
        started: is called at that moment.
        take_over: does not come back. None where MLflow has more to start after the process that
            serves, such as background jobs.
    """
    held = [lock] if lock else []

    def on_start(command: ServerCommand) -> None:
        if not serves(command.words):
            return
        while held:
            _release(held.pop())
        started()
        if take_over:
            take_over(command)

    watch_starts(on_start)


def watch_starts(on_start: Callable[[ServerCommand], None]) -> None:
    """Call `on_start` with every command that this process is about to start; it may not return."""

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            _, words, _, environment = details
            on_start(
                ServerCommand(
                    [os.fsdecode(word) for word in words], dict(environment or os.environ)
                )
            )

    sys.addaudithook(hook)


def become(command: ServerCommand) -> None:
    """Become the process that `command` starts."""
    flush()
    words, environment = _without_password(command)
    os.execve(words[0], words, environment)  # noqa: S606


def _without_password(command: ServerCommand) -> ServerCommand:
    """Take the password of a key out of uvicorn's arguments: it reads a variable as well."""
    words: list[str] = []
    environment = dict(command.environment)
    rest = iter(command.words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name == _KEY_PASSWORD:
            environment[_KEY_PASSWORD_VARIABLE] = value if equals else next(rest, "")
        else:
            words.append(word)
    return ServerCommand(words, environment)


def flush() -> None:
    """Write out what this process has printed, before it ends without looking back."""
    sys.stdout.flush()
    sys.stderr.flush()


def _release(lock: ExitStack) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        lock.close()
    except SQLAlchemyError as error:
        # The session is lost, and with it the lock.
        say(f"the lock in the database was lost early: {reason_of(error)}")
