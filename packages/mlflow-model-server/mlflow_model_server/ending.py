"""End of a process that has run a model's code."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End at once, with all that was written.

    A model may have started threads and processes: Python would wait for them, or end threads in
    the middle of their C code.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
