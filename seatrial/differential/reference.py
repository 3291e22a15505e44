"""MLflow's own server on this host, on SQLite and files in a folder: the reference."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow

from seatrial import process, project, scratch
from seatrial.engine.machine_speed import MACHINE_SPEED
from seatrial.engine.waiting import answers_ok
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOPBACK = "127.0.0.1"
_PATIENCE = 180
"""Seconds to the first answer: 8 on an idle machine of two cores."""
_LAST_LINES = 15
_KEEPER = """
import os, signal, subprocess, sys, threading
def end():
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end, daemon=True).start()
sys.exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL))
"""
"""Runs a command, and kills it and all of its processes when standard input is closed.

That happens too when the process that holds the other end is killed."""
_INSTALLATION = 900
"""Seconds that an environment of another version may take."""


@contextmanager
def running(version: str = mlflow.__version__) -> Iterator[str]:
    """Run a server of that MLflow, with one worker and without jobs, as long as the block.

    Args:
        version: of MLflow; another one than this process's gets an environment of its own.

    Yields:
        where it answers.

    Raises:
        UserError: that version can't be installed, or the server does not start.
    """
    python = interpreter(version)
    with scratch.folder() as folder:
        port = _free_port()
        log = folder / "log"
        command = (
            *(sys.executable, "-c", _KEEPER),
            *(python, "-m", "mlflow", "server", "--host", _LOOPBACK, "--port", str(port)),
            *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
            *("--serve-artifacts", "--artifacts-destination", str(folder / "artifacts")),
        )
        with log.open("wb") as output:
            server = subprocess.Popen(
                command,
                cwd=folder,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, to be killed as one
            )
        try:
            address = f"http://{_LOOPBACK}:{port}"
            _wait(server, address, log)
            yield address
        finally:
            _end(server)


def interpreter(version: str) -> str:
    """Find the Python that has that version of MLflow; environments are kept for later runs.

    Raises:
        UserError: it can't be installed.
    """
    if version == mlflow.__version__:
        return sys.executable
    place = project.current().kept(Path("mlflow") / version)
    python = place / "bin" / "python"
    finished = place / "finished"
    if finished.exists():
        return str(python)
    for words in (
        ("venv", "--clear", "--python", sys.executable, str(place)),
        ("pip", "install", "--python", str(python), f"mlflow=={version}"),
    ):
        done = process.run([sys.executable, "-m", "uv", *words], seconds=_INSTALLATION)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise UserError(
                f"MLflow {version}, which the server is compared with, can't be installed:"
                f" {reason[0].strip()}; `uv pip install mlflow=={version}` has to work here"
            )
    finished.touch()
    return str(python)


def _environment() -> dict[str, str]:
    ours = ("MLFLOW_", "_MLFLOW_", "AWS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((_LOOPBACK, 0))
        return int(listener.getsockname()[1])


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    limit = _PATIENCE * MACHINE_SPEED.refresh()
    end = time.monotonic() + limit
    while True:
        if answers_ok(f"{address}/health"):
            return
        if server.poll() is not None:
            reason = f"ended with code {server.returncode}"
        elif time.monotonic() > end:
            reason = f"did not answer on {address}/health within {limit} s{MACHINE_SPEED.remark}"
        else:
            time.sleep(0.2)
            continue
        said = "\n".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
        raise UserError(f"the reference, MLflow's own server, {reason}; last log lines:\n{said}")


def _end(server: subprocess.Popen[bytes]) -> None:
    if server.stdin:
        server.stdin.close()
    server.wait()
