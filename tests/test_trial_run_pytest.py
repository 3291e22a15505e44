"""`invoke test` from outside: what the user can mend is one line, as in every other task."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from repository import ROOT


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--stack", "half"], "seatrial: unknown stack 'half': known are full and embedded"),
        (
            ["--promise", "server.database"],
            "seatrial: unknown promise 'server.database': did you mean 'server.databases'? `invoke",
        ),
        ([], "seatrial: no container engine answers at unix:///nowhere.sock"),
    ],
)
def test_user_error(words: list[str], line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "test", *words],
        cwd=ROOT,
        env={**os.environ, "DOCKER_HOST": "unix:///nowhere.sock"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert said.startswith(line)
    assert "Traceback" not in done.stdout
