"""The ends of containers: exit codes, and what the log says."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import requests

from seatrial.engine.machine_speed import MACHINE_SPEED

if TYPE_CHECKING:
    from seatrial.stack.running_server import RunningServer

KILLED = 128 + signal.SIGKILL
"""The exit code of a process that was killed."""
START = 60
"""Seconds in which a container that waits for nothing ends, natively."""
WITHIN = 15
"""Seconds in which a container whose server was killed ends, natively."""

KILL_SERVER = """
import os, signal
for name in os.listdir("/proc"):
    if name.isdigit() and int(name) not in (1, os.getpid()):
        print(name, flush=True)
        os.kill(int(name), signal.SIGKILL)
"""
"""Kills every process but the first, which nothing inside a container can kill, and prints each.

The container, and the script in it, may end with the last of them.
"""


def wait_ended(server: RunningServer, cause: str, limit: float) -> int:
    """Wait for the end of the container, and return its exit code.

    Args:
        server: the container's.
        cause: why it is to end, for the message.
        limit: seconds, natively.
    """
    longest = limit * server.image.scale
    try:
        code: int | None = server.container.wait(timeout=longest)["StatusCode"]
    except requests.RequestException:  # the engine's client raises it at the time limit
        code = None
    if code is None:
        pytest.fail(f"the container still runs after {longest} s{MACHINE_SPEED.remark}: {cause}")
    return code


def assert_clear_end(server: RunningServer, cause: str, *named: str, limit: float = START) -> None:
    """Require a failure's exit code, and a log that names the cause without a traceback.

    Args:
        server: the container's.
        cause: why it is to end, for the message.
        named: words of the log.
        limit: seconds, natively.
    """
    code = wait_ended(server, cause, limit)
    log = server.logs(1000)
    assert code not in (0, 143), (
        f"{cause}, and the container ended with exit code {code}, as if all were well"
    )
    missing = [word for word in named if word not in log]
    assert not missing, f"{cause}, and the container's log doesn't name {missing}"
    assert "Traceback" not in log, (
        f"{cause}, and the container's log has a traceback in the place of one line"
    )
