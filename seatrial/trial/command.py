"""`invoke test`: pytest on the acceptance tests, with the options that pytest itself takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from seatrial.catalogue import ROOT
from seatrial.engine.connection import connect
from seatrial.errors import UserError
from seatrial.stack.ownership import sweep
from seatrial.trial.signals import PARENT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

PARALLEL = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadgroup")
"""A worker for each core; beyond four the servers, not the workers, are what one waits for."""


def run(arguments: Sequence[str]) -> None:
    """Run the acceptance tests in a process of their own.

    An interrupt is passed on, and pytest is waited for: it removes its containers before it ends.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came, and pytest has ended.
        SystemExit: with pytest's own exit code, where that is not 0: pytest has said why.
        UserError: something has killed pytest.
    """
    command = [sys.executable, "-m", "pytest", "acceptance", *PARALLEL, *arguments]
    environment = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    interrupted = False
    # A session of its own: a Ctrl-C at the terminal reaches pytest once, from here, not twice.
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True) as pytest:

        def interrupt(_number: int, _frame: FrameType | None) -> None:
            nonlocal interrupted
            interrupted = True
            # Not SIGINT: while pytest is still being imported, that would print a traceback.
            pytest.send_signal(signal.SIGTERM)

        before = {one: signal.signal(one, interrupt) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = pytest.wait()
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
    if interrupted:
        raise KeyboardInterrupt
    if code < 0:
        with closing(connect()) as client:
            removed = sweep(client)
        raise UserError(
            f"something has killed the trial: pytest ended with {signal.Signals(-code).name};"
            f" what it left is removed ({len(removed)} containers, networks and volumes)"
        )
    if code:
        raise SystemExit(code)
