"""Programs that Seatrial runs, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from repository import ROOT

from seatrial import process

if TYPE_CHECKING:
    from pathlib import Path


def test_output_is_stripped(tmp_path: Path) -> None:
    assert process.output(["pwd"], tmp_path) == str(tmp_path)


@pytest.mark.parametrize("command", [["false"], ["no-such-program-at-all"]])
def test_command_that_fails_has_no_output(command: list[str]) -> None:
    assert process.output(command) is None


def test_command_gets_its_input_and_variables() -> None:
    done = process.run(
        ["sh", "-c", "cat; echo $SEA >&2; exit 3"], environment={"SEA": "x"}, text="y"
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "y", "x\n")


def test_command_is_killed_at_its_time_limit() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        process.run(["sleep", "60"], seconds=0.1)


def test_a_group_ends_with_its_block() -> None:
    script = "sleep 60 & echo $!; wait"
    children = []

    def interrupted() -> None:
        with process.group(["bash", "-c", script], os.environ) as running:
            assert running.stdout
            children.append(int(running.stdout.readline()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ended(children[0])


def test_sigterm_ends_the_group_too() -> None:
    code = (
        "import os, sys\n"
        "from seatrial import process\n"
        "with process.group(['sleep', '60'], os.environ) as running:\n"
        "    print(running.pid, flush=True)\n"
        "    running.wait()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        text=True,
    )
    assert parent.stdout
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(30) != 0
    parent.stdout.close()
    assert ended(child)


def ended(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
