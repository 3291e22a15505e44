"""Turn the container's command into MLflow's own command line."""

from __future__ import annotations

import io
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_entrypoint import (
    command,
    garbage_collection,
    known,
    model_server,
    secrecy,
    secret_files,
    settings,
)
from mlflow_entrypoint.errors import EntrypointError, say
from mlflow_entrypoint.processes import ServerCommand
from mlflow_entrypoint.supervisor import supervise
from mlflow_entrypoint.variables import drop_service_links, expand

if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWS_VARIABLES = "doctor"
"""MLflow's command that prints MLflow's variables; what other commands print is users' data."""
_ENVIRONMENT_FILE_LIMIT = 1024 * 1024
"""Bytes of a file of variables."""


def main() -> int:
    """Run what the container was told to.

    Returns:
        the exit code.
    """
    program, *arguments = sys.argv
    hidden, environment = secrecy.hide(arguments, os.environ)
    if hidden != arguments:
        # The process list shows what a process was started with: start anew, without the secret.
        interpreter = sys.orig_argv[: len(sys.orig_argv) - len(arguments)]
        os.execve(sys.executable, [*interpreter, *hidden], environment)  # noqa: S606
    try:
        stop_wait = settings.seconds(os.environ, settings.STOP_WAIT)
    except EntrypointError as error:
        say(str(error))
        return 1
    return supervise(
        partial(_run, program, arguments),
        server=command.read(arguments).starts_server,
        stop_wait=stop_wait,
    )


def _run(program: str, arguments: list[str]) -> int:
    """Become `mlflow`: in a process of its own, forked from the supervisor."""
    sys.stderr = secrecy.MaskedStream(sys.stderr)
    try:
        return _mlflow(program, secrecy.reveal(arguments, os.environ))
    except EntrypointError as error:
        say(str(error))
        return 1


def _mlflow(program: str, arguments: list[str]) -> int:
    # First: no `${MLFLOW_PORT}` means one of them, and a file of variables may set it.
    drop_service_links(os.environ)
    known.learn(os.environ, arguments)
    asked = command.read(arguments)
    general = [expand(word, os.environ) for word in asked.general]
    for path in command.Command(general, []).environment_files:
        _load(path)
    secret_files.load(os.environ)
    rest = [expand(word, os.environ) for word in asked.rest]
    for name, value in settings.ALWAYS.items():
        os.environ.setdefault(name, value)
    known.learn(os.environ, rest)
    if asked.starts_server:
        return _serve([program, *general, rest[0]], rest[1:])
    if rest[:1] == [_SHOWS_VARIABLES]:
        sys.stdout = secrecy.MaskedStream(sys.stdout)
    if model_server.is_asked_for(rest):
        model_server.prepare()
    if rest[:1] == [garbage_collection.COMMAND] and "--help" not in rest:
        rest[1:] = garbage_collection.settle(rest[1:], os.environ)
    return _command_line([program, *general, *rest])


def _command_line(words: list[str]) -> int:
    sys.argv = words
    from mlflow.cli import cli

    return int(cli() or 0)


def _serve(before: list[str], rest: list[str]) -> int:
    """Settle how the server is started, see that its databases are fit for it, and start it."""
    from mlflow_entrypoint import authentication, handover, preloading, readiness, server, starting

    sys.stdout = secrecy.MaskedStream(sys.stdout)
    settled = server.settle(rest, os.environ)
    if settled.authenticates:
        known.learn(authentication.read(os.environ), [])
        authentication.check(os.environ)
    take_over: Callable[[ServerCommand], None] | None = handover.become
    if settings.switch(os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"):
        take_over = None
    elif settings.switch(os.environ, settings.PRELOAD, default=True):
        preloading.load()
        prepared = preloading.prepare_apart()
        if isinstance(prepared, int):
            return prepared
        if isinstance(prepared, ServerCommand):
            return preloading.serve(prepared)
        take_over = prepared
    quiet = starting.QuietStart()
    lock = readiness.prepare(settled, os.environ, partial(starting.upgrade, quiet=quiet))
    handover.prepare(lock, quiet.end, take_over)
    return starting.run([*before, *settled.arguments], quiet)


def _load(path: str) -> None:
    """Read a file of variables, as MLflow will: it refuses one that isn't there."""
    from dotenv import load_dotenv

    if Path(path).exists():
        text = secret_files.read(path, "--env-file", _ENVIRONMENT_FILE_LIMIT)
        load_dotenv(stream=io.StringIO(text), override=False)
