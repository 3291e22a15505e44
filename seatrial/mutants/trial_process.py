"""Runs of the trial in processes of their own, none of which outlives this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from seatrial import process
from seatrial.mutants.verdict import TrialRun, read
from seatrial.project import current
from seatrial.trial.signals import PARENT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOGS = current().state / "mutants"
"""Folder of what pytest has printed about each image in the last run."""


class TrialRunner:
    """Starts pytest, from several threads if need be, and ends what it has started."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, name: str, arguments: Sequence[str]) -> TrialRun:
        """Run the acceptance tests.

        Args:
            name: of the log file below `LOGS`.
            arguments: for pytest.

        Raises:
            KeyboardInterrupt: `stop` was called.
        """
        LOGS.mkdir(parents=True, exist_ok=True)
        log = LOGS / f"{name}.log"
        started = time.monotonic()
        with TemporaryDirectory(prefix="seatrial-mutant-") as folder, log.open("wb") as output:
            report = Path(folder) / "report.xml"
            command = [
                *(sys.executable, "-m", "pytest", "acceptance", *arguments),
                # The other family of reports has no place for what is written to a test case.
                *(f"--junitxml={report}", "-o", "junit_family=xunit1", "-p", "no:cacheprovider"),
            ]
            code = self._wait(command, output.fileno())
            seconds = time.monotonic() - started
            printed = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            errors = [line for line in printed if line.startswith("ERROR: ")]
            last = (errors or printed or ["it said nothing"])[-1].removeprefix("ERROR: ")
            return TrialRun(code, last, read(report), seconds)

    def _wait(self, command: Sequence[str], output: int) -> int:
        with self._lock:
            if self._stopped:
                raise KeyboardInterrupt
            running = subprocess.Popen(
                command,
                cwd=current().root,
                env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.add(running)
        code = running.wait()
        with self._lock:
            self._running.remove(running)
            if self._stopped:
                raise KeyboardInterrupt
        return code

    def stop(self) -> None:
        """End every run; each removes its containers first, and is waited for."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for each in running:
            # Not SIGINT: while pytest is still being imported, that would print a traceback.
            each.send_signal(signal.SIGTERM)
        for each in running:
            each.wait()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Take SIGTERM for Ctrl-C, and end every run before either is passed on."""
        with process.terminations_interrupt():
            try:
                yield
            except BaseException:
                self.stop()
                raise
