"""Serve from a process that has loaded MLflow once for all workers.

`mlflow server` loads MLflow, starts uvicorn, and uvicorn starts every worker as a new interpreter,
which loads MLflow again: seconds of CPU time and nearly 200 MB for each. So this process loads what
doesn't depend on the server's settings. A child forked from it goes on as `mlflow server`, makes
the databases ready, and hands over the command that it would have started. This process, which has
no connection and no thread of MLflow's, loads the app with that command's variables and runs
uvicorn, whose workers are forked in their turn.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.context import ForkProcess
from typing import TYPE_CHECKING, Any

from mlflow_entrypoint import handover
from mlflow_entrypoint.errors import say
from mlflow_entrypoint.processes import announce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.process import BaseProcess

    from mlflow_entrypoint.handover import Command

MODULES = (
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "flask",
    "fastapi",
    "uvicorn.main",
)
"""Nearly all that a server consists of, but for `mlflow.server`: its modules read its settings when
they are imported."""
APPS = ("mlflow.server.fastapi_app:app", "mlflow.server.auth:create_app")
"""Apps that may be loaded before workers are forked. Others might start threads, or connect."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def load() -> None:
    """Load what doesn't depend on the server's settings."""
    _load(*MODULES)


def _load(*modules: str) -> None:
    """Import modules for good.

    Collecting garbage meanwhile finds none, and later it would write to every object: a page that
    is written to is no longer shared with the processes forked from this one.
    """
    gc.disable()
    for name in modules:
        import_module(name)
    gc.freeze()
    gc.enable()


def prepare_apart() -> Callable[[Command], None] | Command | int:
    """Fork a child that goes on as `mlflow server`.

    Returns:
        in the child, what takes the command over. Here, when the child has ended: the command, or
        its exit code where there is none.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)

        def hand_over(command: Command) -> None:
            with os.fdopen(writer, "w", encoding="ascii") as file:
                json.dump(command, file)
            os._exit(0)

        return hand_over
    os.close(writer)
    with os.fdopen(reader, encoding="ascii") as file:
        text = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        say(f"`mlflow server` was ended by {signal.Signals(-code).name} before it served")
        return 128 - code
    return handover.Command(*json.loads(text)) if text else code


def serve(command: Command) -> int:
    """Do what `command` says: here if it is one of MLflow's own apps on uvicorn.

    Returns:
        the exit code.
    """
    if "uvicorn" not in command.words or command.words[-1] not in APPS:
        handover.become(command)
    os.environ.clear()
    os.environ.update(command.environment)
    announce(command)
    _fork_workers()
    from uvicorn.main import main

    # `python -m` puts the working directory first, uvicorn as well.
    return int(main(command.words[command.words.index("uvicorn") + 1 :], "uvicorn") or 0)


def _fork_workers() -> None:
    """See that uvicorn forks its workers from this process, with the app loaded."""
    from uvicorn import _subprocess

    spawning = _subprocess.spawn

    class Context:
        """Stands in for the one by which uvicorn makes processes."""

        def Process(  # noqa: N802 - as multiprocessing calls it
            self, target: Callable[..., object], kwargs: dict[str, Any]
        ) -> BaseProcess:
            config = kwargs["config"]
            if config.should_reload:
                return spawning.Process(target=target, kwargs=kwargs)
            if (module := config.app.partition(":")[0]) not in sys.modules:
                _load(module)
            return _Worker(target=target, kwargs=kwargs)

    _subprocess.spawn = Context()  # type: ignore[assignment]


class _Worker(ForkProcess):
    """A process that doesn't take its parent's part when a signal comes before it has its own."""

    def start(self) -> None:
        with _undisturbed():
            super().start()

    def run(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        super().run()


@contextmanager
def _undisturbed() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
