"""Run programs: short ones for their output, long ones so that they never outlive this process."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType


# BuildKit and mmdebstrap undo what they were doing; longer than this they are stuck.
_GRACE_SECONDS = 20.0


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    text: str | None = None,
    seconds: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and keep its output, whatever its exit code.

    Args:
        command: with its arguments.
        environment: all of its variables; this process's own if None.
        folder: its working folder; this process's own if None.
        text: its standard input; this process's own if None.
        seconds: its time limit.

    Raises:
        FileNotFoundError: there is no such command.
        subprocess.TimeoutExpired: it was killed at its time limit.
    """
    return subprocess.run(
        command,
        env=environment,
        cwd=folder,
        input=text,
        timeout=seconds,
        capture_output=True,
        text=True,
        check=False,
    )


def output(command: Sequence[str], folder: Path | None = None) -> str | None:
    """Run a command and return its standard output without the blanks around it.

    Returns:
        None where the command fails or does not exist.
    """
    try:
        done = run(command, folder=folder)
    except OSError:
        return None
    return None if done.returncode else done.stdout.strip()


@contextmanager
def group(
    command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a process group of its own, which has ended when the block has.

    A Ctrl-C, a SIGTERM or an error in the block interrupts the whole group, and kills it when it
    does not end by itself. What it writes to either stream is read from its `stdout`.

    Raises:
        FileNotFoundError: there is no such command.
    """
    with (
        terminations_interrupt(),
        subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as running,
    ):
        try:
            yield running
            running.wait()
        finally:
            _end(running)


def _end(running: subprocess.Popen[bytes]) -> None:
    if running.poll() is None:
        _signal(running, signal.SIGINT)
        # Its last words must not block it: nobody reads them any more.
        drain = threading.Thread(target=_drain, args=(running,), daemon=True)
        drain.start()
        with suppress(subprocess.TimeoutExpired):
            running.wait(_GRACE_SECONDS)
    _signal(running, signal.SIGKILL)


def _drain(running: subprocess.Popen[bytes]) -> None:
    if running.stdout and not running.stdout.closed:
        running.stdout.read()


def _signal(running: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # the whole group has ended
        os.killpg(running.pid, number)


@contextmanager
def terminations_interrupt() -> Iterator[None]:
    """Treat SIGTERM like a Ctrl-C: Python's default would leave children behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interrupts_passed_on(child: subprocess.Popen[Any]) -> Iterator[list[int]]:
    """Let a child that tidies up end by itself: SIGINT and SIGTERM reach it, not this process.

    The child is in a session of its own: a Ctrl-C at the terminal reaches it once, from here.

    Yields:
        the signals that have come so far.
    """
    came: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        # Not SIGINT: while a program in Python is still importing, that would print a traceback.
        child.send_signal(signal.SIGTERM)

    before = {one: signal.signal(one, pass_on) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
