"""`python -m mutation`, which `nox -s mutation` runs."""

from __future__ import annotations

import sys

from mutation.command import run
from seatrial import process
from seatrial.errors import exit_code


def _run() -> int:
    # The copies, and what runs in them, go at a SIGTERM as well.
    with process.terminations_interrupt():
        return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(exit_code(_run))
