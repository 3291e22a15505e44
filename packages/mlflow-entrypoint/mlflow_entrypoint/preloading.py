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
from mlflow_entrypoint.processes import ServerCommand, announce
from mlflow_entrypoint.schema import mlflow_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.process import BaseProcess

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
LOG_CONFIGURATION = "server/uvicorn_log_config.yaml"
"""MLflow's own, in its package."""
METRICS = "prometheus_multiproc_dir"
"""MLflow's variable for the folder of its metrics; where it isn't set, none are kept."""
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


def prepare_apart() -> Callable[[ServerCommand], None] | ServerCommand | int:
    """Fork a child that goes on as `mlflow server`.

    Returns:
        in the child, what takes the command over. Here, when the child has ended: the command, or
        its exit code where there is none.
    """
    handover.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)

        def hand_over(command: ServerCommand) -> None:
            handover.flush()
            with os.fdopen(writer, "w", encoding="ascii") as file:
                json.dump(command, file)
            os._exit(0)

        return hand_over
    os.close(writer)
    # Ctrl-C meanwhile is no fault of this program: no traceback.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    with os.fdopen(reader, encoding="ascii") as file:
        text = file.read()
    signal.signal(signal.SIGINT, before)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        say(f"`mlflow server` was ended by {signal.Signals(-code).name} before it served")
        return 128 - code
    return ServerCommand(*json.loads(text)) if text else code


def serve(command: ServerCommand) -> int:
    """Do what `command` says: here where nothing must come before MLflow is loaded.

    Returns:
        the exit code.
    """
    if not _can_follow(command.words):
        handover.become(command)
    os.environ.clear()
    os.environ.update(command.environment)
    announce(command)
    _fork_workers()
    from uvicorn.main import main

    # `python -m` puts the working directory first, uvicorn as well.
    return int(main(_options(command.words), "uvicorn") or 0)


def _options(words: list[str]) -> list[str]:
    return words[words.index("uvicorn") + 1 :]


def _can_follow(words: list[str]) -> bool:
    """Tell whether it makes no difference that MLflow is loaded when uvicorn reads its options.

    Another configuration of logging would silence the loggers that are there already, variables
    from a file would come too late for modules that read them when they are imported, and reloading
    is about loading.
    """
    if "uvicorn" not in words or words[-1] not in APPS:
        return False
    from uvicorn.main import main

    with main.make_context("uvicorn", _options(words), resilient_parsing=True) as context:
        parameters = context.params
    own = str(mlflow_folder() / LOG_CONFIGURATION)
    return (
        parameters["log_config"] == own and not parameters["env_file"] and not parameters["reload"]
    )


def _fork_workers() -> None:
    """See that uvicorn forks its workers from this process, with the app loaded."""
    from uvicorn import _subprocess

    class Context:
        """Stands in for the one by which uvicorn makes processes."""

        def Process(  # noqa: N802 - as multiprocessing calls it
            self, target: Callable[..., object], kwargs: dict[str, Any]
        ) -> BaseProcess:
            module = kwargs["config"].app.partition(":")[0]
            # Metrics belong to the process that made them: each worker has to make its own.
            if METRICS not in os.environ and module not in sys.modules:
                _load(module)
            return _Worker(target=target, kwargs=kwargs)

    _subprocess.spawn = Context()  # type: ignore[assignment]


class _Worker(ForkProcess):
    """Worker that resets signal handlers, so that an early signal does not run its parent's."""

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
