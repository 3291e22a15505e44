"""`invoke test`: pytest on the acceptance tests, with the options that pytest itself takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import IO, TYPE_CHECKING

from seatrial import process
from seatrial.engine.connection import connect
from seatrial.errors import UserError, plain
from seatrial.project import PACKAGE, builtin, current
from seatrial.stack.labels import remove_abandoned
from seatrial.trial.signals import PARENT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

PARALLEL = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadgroup")
"""A worker for each core; beyond four the servers, not the workers, are what one waits for."""

_USAGE_ERROR = 4
"""pytest's exit code for what the user can mend; the tasks have one of their own."""
_MARK = "ERROR: "
"""How the line begins in which pytest says what that is."""
_LAST_WORDS = 10.0
"""Seconds to read what pytest has written, after its end: its workers may hold the pipe open."""


def run(arguments: Sequence[str]) -> None:
    """Run the acceptance tests in a process of their own.

    An interrupt is passed on, and pytest is waited for: it removes its containers before it ends.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came, and pytest has ended.
        SystemExit: with pytest's own exit code, where that is not 0: pytest has said why.
        UserError: pytest says that something is wrong that the user can mend, or something has
            killed it.
    """
    tests, folder = _acceptance()
    command = [sys.executable, "-m", "pytest", *tests, *PARALLEL, *arguments]
    environment = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as pytest:
        assert pytest.stderr
        errors = _Errors(pytest.stderr)
        with process.interrupts_passed_on(pytest) as interrupts:
            code = pytest.wait()
            errors.join(_LAST_WORDS)
    if code == _USAGE_ERROR and errors.found:
        raise UserError("; ".join(errors.found))
    for line in errors.found:
        sys.stderr.write(f"seatrial: {line}\n")
    if interrupts:
        raise KeyboardInterrupt
    if code < 0:
        with closing(connect()) as client:
            removed = remove_abandoned(client)
        raise UserError(
            f"something has killed the trial: pytest ended with {signal.Signals(-code).name};"
            f" what it left is removed ({len(removed)} containers, networks and volumes)"
        )
    if code:
        raise SystemExit(code)


def _acceptance() -> tuple[list[str], Path]:
    """The words that give pytest the acceptance tests, and the folder to run it in.

    Settings and conftests of the repository that the packaged tests run beside are its own tests'.
    """
    project = current()
    if project.acceptance.is_dir() and project.has_services:
        return ["acceptance"], project.root
    # A package that is used out of a checkout has the tests beside it.
    tests = next(filter(Path.is_dir, (PACKAGE / "acceptance", builtin().acceptance)))
    words = [
        str(tests),
        *("-c", str(PACKAGE / "trial" / "acceptance.ini"), "--rootdir", str(PACKAGE.parent)),
        *("-p", "no:cacheprovider", "-p", "seatrial.trial.plugin"),
    ]
    return words, Path.cwd()


class _Errors(threading.Thread):
    """Passes on what pytest writes to its standard error, but for the lines that name errors."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(daemon=True)
        self.found: list[str] = []
        self._stream = stream
        self.start()

    def run(self) -> None:
        """Read until the stream ends."""
        follows_error = False
        for line in self._stream:
            text = plain(line.rstrip())
            if text.startswith(_MARK):
                self.found.append(text.removeprefix(_MARK))
                follows_error = True
            elif text or not follows_error:  # pytest ends an error with an empty line
                sys.stderr.write(line)
                sys.stderr.flush()
                follows_error = False
