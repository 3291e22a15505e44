"""`python -m seatrial.mutants`, which `nox -s mutants` runs."""

from __future__ import annotations

import sys

from seatrial import scratch
from seatrial.errors import UserError
from seatrial.mutants.try_mutants import run

if __name__ == "__main__":
    try:
        with scratch.for_temporary_files():
            sys.exit(run(sys.argv[1:]))
    except UserError as error:
        sys.stderr.write(f"seatrial: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("seatrial: interrupted\n")
        sys.exit(130)
