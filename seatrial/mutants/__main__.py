"""`python -m seatrial.mutants`, which `nox -s mutants` runs."""

from __future__ import annotations

import sys

from seatrial import scratch
from seatrial.errors import exit_code
from seatrial.mutants.try_mutants import run


def _run() -> int:
    with scratch.for_temporary_files():
        return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(exit_code(_run))
