"""`python -m reproducible`, which `nox -s reproducible` runs."""

from __future__ import annotations

import sys

from reproducible.command import run
from seatrial import process, scratch
from seatrial.errors import exit_code


def _run() -> int:
    with process.terminations_interrupt(), scratch.for_temporary_files():
        return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(exit_code(_run))
