"""Start `mlflow server` so that a failure is one line.

MLflow reports what ends its start by a traceback among whatever else it has written. Here all of
that is held back until the server is handed over: then it is written, or a start has failed, and
one line takes its place.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING

from mlflow_entrypoint.databases import reason_of
from mlflow_entrypoint.errors import say
from mlflow_entrypoint.secrecy import MaskedStream

if TYPE_CHECKING:
    from types import TracebackType

_HOLD_SECONDS = 10.0
"""A start that takes longer, such as the migration of a large database, shows how far it is."""
_LEVEL = "MLFLOW_LOGGING_LEVEL"
_HINT = f"{_LEVEL}=DEBUG shows where"
_LOGGER = "mlflow.cli"
"""Whose errors end a start."""


def wants_tracebacks() -> bool:
    """Tell whether somebody looks for a fault in a start."""
    return os.environ.get(_LEVEL, "").upper() == "DEBUG"


class QuietStart:
    """Holds back what this process writes while a server starts."""

    def __init__(self) -> None:
        """Hold nothing back yet."""
        self._streams = [
            stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, MaskedStream)
        ]
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        """Hold back from now on, and make one line of what ends this process."""
        # The entry point has waited for the databases; MLflow would try ten times more, for 100 s.
        from mlflow.store.db import utils

        utils.MAX_RETRY_COUNT = 1
        if wants_tracebacks():
            return
        sys.excepthook = self._report
        logging.getLogger(_LOGGER).addFilter(self._is_no_failure)
        for stream in self._streams:
            stream.hold()
        self._timer = threading.Timer(_HOLD_SECONDS, self._write)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        """Write what was held back: the server serves, or its own words say why it doesn't."""
        self._stop()
        self._write()

    def fail(self, reason: str) -> None:
        """Write one line in the place of what was held back."""
        self.drop()
        say(reason)

    def drop(self) -> None:
        """Give up what was held back: one line says what there is to say."""
        self._stop()
        for stream in self._streams:
            stream.drop()

    def _stop(self) -> None:
        sys.excepthook = sys.__excepthook__
        logging.getLogger(_LOGGER).removeFilter(self._is_no_failure)
        if self._timer:
            self._timer.cancel()
            # No thread may be there when a process is forked.
            self._timer.join()
            self._timer = None

    def _write(self) -> None:
        for stream in self._streams:
            stream.release()

    def _report(
        self, error_type: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(error_type, Exception):
            self.fail(_in_one_line(error))
        else:
            sys.__excepthook__(error_type, error, trace)

    def _is_no_failure(self, record: logging.LogRecord) -> bool:
        """Let a record through, unless it is what MLflow says of the error that ends it."""
        if record.levelno < logging.ERROR or not record.exc_info or not record.exc_info[1]:
            return True
        self.fail(_in_one_line(record.exc_info[1]))
        return False


def _in_one_line(error: BaseException) -> str:
    return f"the server can't start: {reason_of(error)} ({_HINT})"


def upgrade(url: str, quiet: QuietStart) -> None:
    """Run `mlflow db upgrade` in this process, whose errors are the caller's.

    Args:
        url: of the database.
        quiet: holds back what it writes.
    """
    from mlflow.cli import cli

    quiet.begin()
    done = False
    try:
        cli.main(["db", "upgrade", url], standalone_mode=False)
        done = True
    finally:
        if done:
            quiet.end()
        else:
            quiet.drop()


def run(words: list[str], quiet: QuietStart) -> int:
    """Run `mlflow server` in this process.

    Args:
        words: the command line, the program first.
        quiet: holds back what it writes.

    Returns:
        the exit code; 1 where MLflow refuses an option or a variable.
    """
    from click import ClickException
    from mlflow.cli import cli

    sys.argv = words
    quiet.begin()
    try:
        code = int(cli.main(standalone_mode=False) or 0)
    except ClickException as error:
        message = " ".join(error.format_message().split())
        quiet.fail(f"the server can't start: {message}")
        return 1
    except SystemExit:
        quiet.end()
        raise
    quiet.end()
    return code
