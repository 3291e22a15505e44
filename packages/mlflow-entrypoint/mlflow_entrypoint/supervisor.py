"""The container's first process: it hands signals on, collects dead processes, and ends last."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from mlflow_entrypoint.errors import say

if TYPE_CHECKING:
    from collections.abc import Callable

_OWN = {"SIGKILL", "SIGSTOP", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP"} | {
    "SIGSYS",
    "SIGPIPE",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGCONT",
}
"""Signals that concern the process they reach, not the server."""
_HANDLED = {number for number in signal.valid_signals() if getattr(number, "name", "") not in _OWN}
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_TICK = 0.1
"""Seconds between two looks at processes that are about to end."""


def supervise(run: Callable[[], int], *, server: bool, stop_wait: float) -> int:
    """Run `run` in a child process, and give back the exit code for this one.

    In the child it gives back what `run` does.

    Args:
        run: what the child does.
        server: it is to run until it is told to stop: to end before that is a failure.
        stop_wait: seconds after which a server that was told to stop is killed.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    child = os.fork()
    if child == 0:
        _become_leader(in_foreground=not server)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        return run()
    return _Supervisor(child, server=server, stop_wait=stop_wait).code()


def _become_leader(*, in_foreground: bool) -> None:
    """Lead a process group, so that all of it can be ended.

    A server leaves the terminal to its supervisor, which so learns of Ctrl-C; anything else may
    want to read from it.
    """
    os.setpgid(0, 0)
    if in_foreground and sys.stdin is not None and sys.stdin.isatty():
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
        signal.signal(signal.SIGTTOU, before)


class _Supervisor:
    def __init__(self, child: int, *, server: bool, stop_wait: float) -> None:
        self._child = child
        self._server = server
        self._stop_wait = stop_wait
        self._status: int | None = None
        self._stopped_by: signal.Signals | int | None = None
        self._deadline: float | None = None

    def code(self) -> int:
        while self._status is None:
            self._handle_signal()
        if self._server:
            self._end_group()
        return self._judge(self._status)

    def _handle_signal(self) -> None:
        """Wait for one signal, and see to it."""
        if self._deadline is None:
            number = signal.sigwaitinfo(_HANDLED).si_signo
        else:
            info = signal.sigtimedwait(_HANDLED, max(0.0, self._deadline - time.monotonic()))
            number = info.si_signo if info else signal.SIGKILL
        if number == signal.SIGKILL:
            self._deadline = None
            _signal_group(self._child, signal.SIGKILL)
        elif number != signal.SIGCHLD:
            self._pass_on(number)
        self._collect()

    def _pass_on(self, number: int) -> None:
        if number in _STOPS and self._stopped_by is None:
            self._stopped_by = number
            if self._server:
                self._deadline = time.monotonic() + self._stop_wait
        if self._status is None:
            os.kill(self._child, number)

    def _collect(self) -> None:
        """Reap every exited child process: orphans come to the first process."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                self._resume(pid)
            elif pid == self._child:
                self._status = os.waitstatus_to_exitcode(status)

    def _resume(self, pid: int) -> None:
        """Let a server go on that was stopped: nobody replaces the process that replaces others."""
        if self._server:
            say("the server was stopped by a signal, and goes on")
            os.kill(pid, signal.SIGCONT)

    def _end_group(self) -> None:
        """End what the child left behind, such as workers whose parent was killed."""
        deadline = self._deadline or time.monotonic() + self._stop_wait
        alive = _signal_group(self._child, signal.SIGTERM)
        while alive and time.monotonic() < deadline:
            signal.sigtimedwait({signal.SIGCHLD}, _TICK)
            self._collect()
            alive = _signal_group(self._child, 0)
        if alive:
            _signal_group(self._child, signal.SIGKILL)

    def _judge(self, status: int) -> int:
        code = 128 - status if status < 0 else status
        if not self._server:
            return code
        if self._stopped_by is None and code == 0:
            # mlflow gives 0 even when its server was killed.
            say("the server has ended without having been told to: exit code 1")
            return 1
        if self._stopped_by is not None and status == -signal.SIGKILL:
            say(f"the server did not stop within {self._stop_wait:g} s and was killed")
            return 128 + self._stopped_by
        return code


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; whether it has any process left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True
