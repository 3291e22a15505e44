"""How containers end."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import requests

if TYPE_CHECKING:
    from seatrial.stack.running import RunningServer

KILLED = 128 + signal.SIGKILL
"""The exit code of what was killed."""
START = 60
"""Seconds in which a container ends that has nothing to wait for, natively."""
WITHIN = 15
"""Seconds in which a container ends whose server was killed, natively."""

KILL_SERVER = """
import os, signal
for name in os.listdir("/proc"):
    if name.isdigit() and int(name) not in (1, os.getpid()):
        print(name, flush=True)
        os.kill(int(name), signal.SIGKILL)
"""
"""Kills every process but the first one, which nothing inside a container can, and prints which.

With the last of them the container may end, and the script in it.
"""


def ended(server: RunningServer, what: str, limit: float) -> int:
    """Wait for the end of the container, and give back its exit code."""
    longest = limit * server.image.scale
    try:
        code: int | None = server.container.wait(timeout=longest)["StatusCode"]
    except requests.RequestException:  # what the engine's client makes of the time limit
        code = None
    if code is None:
        pytest.fail(f"the container still runs after {longest} s: {what}")
    return code


def assert_clear_end(server: RunningServer, what: str, *named: str, limit: float = START) -> None:
    """It ends as a failure, and its log names the cause without a traceback."""
    code = ended(server, what, limit)
    log = server.logs(1000)
    assert code not in (0, 143), f"exit code {code} hides the failure: {what}"
    missing = [word for word in named if word not in log]
    assert not missing, f"{what}, and the log doesn't name {missing}"
    assert "Traceback" not in log, f"{what}, and the log has a traceback in the place of one line"
