"""Commands that a measurement starts: their output goes to a log, a failure is one line."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import ROOT
from seatrial import process
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Runner:
    """Runs commands in the repository's folder."""

    log: Path

    def run(
        self,
        command: Sequence[str],
        variables: Mapping[str, str] | None = None,
        started: Callable[[int], None] | None = None,
    ) -> str:
        """Run a command to its end.

        Args:
            command: with its arguments.
            variables: of the environment, beside this process's own.
            started: called with the process id.

        Returns:
            Its output, both streams.

        Raises:
            UserError: it failed; names the log and gives its last line.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        with (
            self.log.open("a", encoding="utf-8") as log,
            process.group(command, {**os.environ, **(variables or {})}, ROOT) as running,
        ):
            if started:
                started(running.pid)
            log.write(f"$ {' '.join(command)}\n")
            assert running.stdout
            for line in io.TextIOWrapper(running.stdout, "utf-8", errors="replace"):
                log.write(line)
                lines.append(line)
            running.wait()
            log.write("\n")
        if running.returncode:
            printed = [line.strip() for line in lines if line.strip()]
            raise UserError(
                f"a measured command failed: {' '.join(command[:4])} ...: "
                f"{(printed or ['no output'])[-1]}; see {self.log.relative_to(ROOT)}"
            )
        return "".join(lines)
