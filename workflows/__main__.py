"""`python -m workflows`, which `nox -s workflows` runs."""

from __future__ import annotations

import sys

from seatrial import process, scratch
from seatrial.errors import exit_code
from workflows.command import run


def _run() -> int:
    with process.terminations_interrupt(), scratch.for_temporary_files():
        return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(exit_code(_run))
