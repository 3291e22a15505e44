"""`invoke test`: pytest on the acceptance tests, with the options that pytest itself takes."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from seatrial.catalogue import ROOT
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

PARALLEL = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadgroup")
"""A worker for each core; beyond four the servers, not the workers, are what one waits for."""


def run(arguments: Sequence[str]) -> None:
    """Run the acceptance tests in a process of their own.

    An interrupt is passed on, and pytest is waited for: it removes its containers before it ends.

    Raises:
        UserError: pytest has ended with another code than 0.
    """
    command = [sys.executable, "-m", "pytest", "acceptance", *PARALLEL, *arguments]
    # A session of its own: a Ctrl-C at the terminal reaches pytest once, from here, not twice.
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as pytest:

        def interrupt(_number: int, _frame: FrameType | None) -> None:
            pytest.send_signal(signal.SIGINT)

        before = {one: signal.signal(one, interrupt) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = pytest.wait()
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
    if code == 2:
        raise KeyboardInterrupt
    if code:
        raise UserError(f"the trial failed: pytest ended with exit code {code}")
