"""Run a package's tests on a copy of it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from seatrial.errors import UserError

if TYPE_CHECKING:
    from mutation.changes import Mutant

_PRELOADED = ["pytest", "hypothesis", "mlflow.cli", "mlflow.pyfunc", "pandas", "sqlalchemy"]
"""What takes longest to import, and is the same for every mutant."""
_FACTOR, _MORE_SECONDS = 3, 10
"""How much longer than without a mutant the tests may take."""
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(_PRELOADED)


class Verdict(Enum):
    """What the tests say of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    TIMEOUT = "timeout"
    """The tests did not end in time: the mutant is known by that as well."""


class Tests(NamedTuple):
    """The tests of a module, as pytest takes them, the quick ones first."""

    package: str
    names: tuple[str, ...]


class Copy:
    """A copy of the packages, in which one mutant after the other is tried."""

    def __init__(self, root: Path, folder: Path) -> None:
        """Copy what the tests of the packages read."""
        ignored = shutil.ignore_patterns("__pycache__", ".pytest_cache")
        for name in ("packages", "docker/model-server"):
            shutil.copytree(root / name, folder / name, ignore=ignored)
        (folder / "tmp").mkdir()
        self._folder = folder

    def try_mutant(self, mutant: Mutant, tests: Tests, seconds: float) -> Verdict:
        """Run tests on a mutant.

        Args:
            mutant: stands in the copy while the tests run.
            tests: of its module.
            seconds: what they take without a mutant.

        Raises:
            UserError: pytest could not run.
        """
        path = self._folder / "packages" / tests.package / mutant.path
        source = path.read_text(encoding="utf-8")
        path.write_text(mutant.code, encoding="utf-8")
        try:
            code = self._run(tests, seconds * _FACTOR + _MORE_SECONDS)
        finally:
            path.write_text(source, encoding="utf-8")
        match code:
            case None:
                return Verdict.TIMEOUT
            case pytest.ExitCode.OK:
                return Verdict.SURVIVED
            case pytest.ExitCode.USAGE_ERROR | pytest.ExitCode.NO_TESTS_COLLECTED:
                raise UserError(f"pytest finds no {' '.join(tests.names)}: {self._said()}")
            case _:
                return Verdict.KILLED

    def seconds(self, tests: Tests, limit: float = 600) -> float:
        """Run tests without a mutant: how long they take.

        Raises:
            UserError: they fail.
        """
        began = time.monotonic()
        code = self._run(tests, limit)
        if code != pytest.ExitCode.OK:
            raise UserError(
                f"without a mutant, {' '.join(tests.names)} of {tests.package} ends with"
                f" {code}: {self._said()}"
            )
        return time.monotonic() - began

    def _run(self, tests: Tests, limit: float) -> int | None:
        """The exit code; None after `limit` seconds."""
        process = _FORKS.Process(target=_test, args=(self._folder, tests))
        process.start()
        process.join(limit)
        late = process.is_alive()
        # A process group of its own: servers that a test has left behind go as well.
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        return None if late else process.exitcode

    def _said(self) -> str:
        lines = (self._folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        return " / ".join(lines[-3:])


def _test(folder: Path, tests: Tests) -> None:
    """Run pytest in this process, which has been forked for it."""
    from hypothesis import settings

    os.setsid()
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    # Python knows an outdated file by its size and the second of its change: mutants have both.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    # Tests that are ended leave files behind, which go with the copy.
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
    settings.register_profile("mutation", derandomize=True)
    settings.load_profile("mutation")
    package = folder / "packages" / tests.package
    os.chdir(package)
    options = ("--exitfirst", "--quiet", "-p", "no:cacheprovider", "--basetemp", folder / "tests")
    names = [str(Path("tests") / name) for name in tests.names]
    code = pytest.main([*map(str, options), "-c", "pyproject.toml", *names])
    # Threads that a test has left behind hold nothing up.
    os._exit(code)
