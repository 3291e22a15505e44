"""`python -m mutation`, which `nox -s mutation` runs."""

from __future__ import annotations

import sys

from mutation.command import run
from seatrial import process
from seatrial.errors import UserError

if __name__ == "__main__":
    try:
        # The copies, and what runs in them, go at a SIGTERM as well.
        with process.terminations_interrupt():
            sys.exit(run(sys.argv[1:]))
    except UserError as error:
        sys.stderr.write(f"seatrial: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("seatrial: interrupted\n")
        sys.exit(130)
