"""The process that starts the front and the workers, replaces workers, and ends everything.

It has one thread and answers no request: so it can fork at any time.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from mlflow_entrypoint.errors import EntrypointError, say

from mlflow_model_server import control, ending, listening, memory
from mlflow_model_server.control import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_model_server.control import Kind
    from mlflow_model_server.settings import Settings

_MODULES = ("mlflow.pyfunc.scoring_server", "fastapi", "pandas", "yaml")
"""Modules that every worker needs, whatever its model is."""
_FLAVOR_MODULES = {"mlflow.sklearn": ("mlflow.sklearn", "sklearn.linear_model", "sklearn.ensemble")}
"""Modules that models of a flavor need, by its loader: only what is known to survive a fork."""
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_SIGNALS = (*_STOPS, signal.SIGHUP, signal.SIGCHLD)
_IDLE_DEATHS = 5
_END_WAIT = 2.0
"""Seconds for workers to end by themselves, when the front has."""


@dataclass
class _Worker:
    pid: int
    report: int
    usage: memory.Usage
    began: float
    ready: bool = False
    status: int | None = None
    lost: Message | None = None
    why: str = ""
    """True if this process killed it."""
    memory: bool = False
    """True if it ended for want of memory."""


def run(settings: Settings) -> int:
    """Serve; in each process that is forked from this one, what it has to do.

    Returns:
        the exit code.
    """
    for number in _STOPS:
        # Before there is anything to finish: the front ends when this process has.
        signal.signal(number, lambda *_: os._exit(0))
    children: list[int] = []
    try:
        listener = listening.listen(settings.host, settings.port, settings.send_timeout)
        own, theirs = control.pair()

        def answer() -> int:
            from mlflow_model_server import front

            return front.run(settings, listener, theirs)

        children.append(_fork(answer, close=own.close))
        listener.close()
        theirs.close()
        _prepare(settings)
    except EntrypointError as error:
        say(str(error))
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return 1
    return _Manager(settings, children[0], own).run()


def _prepare(settings: Settings) -> None:
    """See that the model can be served, and load what its workers will share."""
    from mlflow_model_server import fitness

    described = fitness.flavor(settings.model)
    if fault := fitness.unmet(settings.model, described):
        if settings.enforce_requirements:
            raise EntrypointError(
                f"{fault}; build it with them, or set MLFLOW_MODEL_REQUIREMENTS=warn"
            )
        say(fault)
    # Collecting garbage meanwhile finds none, and later it would write to every object: a page that
    # is written to is no longer shared with the processes forked from this one.
    gc.disable()
    for name in (*_MODULES, *_FLAVOR_MODULES.get(str(described.get("loader_module")), ())):
        import_module(name)
    import_module("mlflow_model_server.worker")
    gc.freeze()
    gc.enable()


def _fork(run: Callable[[], int], *, close: Callable[[], None]) -> int:
    """Fork a child that does `run` with the signals' default actions, and leaves with its code."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        close()
        ending.leave(run())
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


class _Manager:
    def __init__(self, settings: Settings, front: int, own: socket.socket) -> None:
        self._settings = settings
        self._front = front
        self._control = own
        self._workers: dict[int, _Worker] = {}
        self._number = 0
        self._idle_deaths = 0
        self._stopping = False
        self._failed = False
        self._deadline: float | None = None
        self._wakeup, self._wakeup_end = os.pipe()
        self._memory = memory.Watch(memory.Cgroup(), settings.worker_memory)

    def run(self) -> int:
        for end in (self._wakeup, self._wakeup_end):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wakeup_end, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        for _ in range(self._settings.workers):
            self._start()
        code = None
        while code is None:
            code = self._handle_events()
        self._end_workers()
        return code

    def _handle_events(self) -> int | None:
        """Wait for something to happen, and see to it; the exit code when all is over."""
        readable, _, _ = select.select([self._wakeup, self._control.fileno()], [], [], self._wait())
        if self._wakeup in readable:
            numbers = os.read(self._wakeup, 4096)
            if any(number in numbers for number in _STOPS) and not self._stopping:
                self._stopping = True
                control.send(self._control, Message("stop"))
        self._read_control()
        if (code := self._reap()) is not None:
            return code
        self._settle()
        self._look()
        if self._deadline is not None and time.monotonic() >= self._deadline:
            os.kill(self._front, signal.SIGKILL)
            self._deadline = None
        return None

    def _wait(self) -> float | None:
        """Seconds until there is something to do, whatever happens; None for ever."""
        times = [] if self._deadline is None else [self._deadline]
        times += [
            worker.began + self._settings.load_timeout
            for worker in self._workers.values()
            if not (worker.ready or worker.why)
        ]
        now = time.monotonic()
        waits = [max(0.0, moment - now) for moment in times]
        if self._memory.wait is not None:
            waits.append(self._memory.wait)
        return min(waits, default=None)

    def _look(self) -> None:
        """Kill workers that load for too long, or take too much memory."""
        now = time.monotonic()
        for worker in self._workers.values():
            if not worker.ready and now - worker.began >= self._settings.load_timeout:
                self._kill(worker, f"it did not load the model in {self._settings.load_timeout} s")
        present = {
            number: worker.usage
            for number, worker in self._workers.items()
            if worker.ready and worker.status is None
        }
        if any(self._workers[number].memory for number in present):
            return  # what it took is about to be free
        if found := self._memory.look(present):
            number, why = found
            self._workers[number].memory = True
            self._kill(self._workers[number], why)

    def _kill(self, worker: _Worker, why: str) -> None:
        if worker.status is None and not worker.why:
            worker.why = why
            os.kill(worker.pid, signal.SIGKILL)

    def _read_control(self) -> None:
        while True:
            try:
                received = control.receive(self._control)
            except BlockingIOError:
                return
            if received is None:
                return  # the front has ended: it will be reaped
            message, _ = received
            worker = self._workers.get(message.worker)
            if worker is None:
                continue
            if message.kind == "ready":
                worker.ready = True
                worker.usage.settle()
            elif message.kind == "lost":
                worker.lost = message
                if worker.status is None:
                    os.kill(worker.pid, signal.SIGKILL)  # it can't be reached any more

    def _reap(self) -> int | None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return 1
            if pid == 0:
                return None
            ended = os.WIFEXITED(status) or os.WIFSIGNALED(status)
            if ended and pid == self._front:
                return self._judge(os.waitstatus_to_exitcode(status))
            for number, worker in self._workers.items():
                if worker.pid == pid and ended:
                    self._end(number, worker, os.waitstatus_to_exitcode(status))
                elif worker.pid == pid:
                    kind: Kind = "stopped" if os.WIFSTOPPED(status) else "continued"
                    control.send(self._control, Message(kind, number))

    def _end(self, number: int, worker: _Worker, code: int) -> None:
        """Tell the front, whose sockets may be held open by a process that the model started."""
        worker.status = code
        if code == -signal.SIGKILL and not worker.why and self._memory.has_killed():
            worker.memory, worker.why = True, "the kernel ended it for want of memory"
        message = Message("ended", number, memory=worker.memory, blamed=worker.usage.blamed)
        control.send(self._control, message)

    def _judge(self, code: int) -> int:
        """The exit code, now that the front has ended."""
        if self._failed:
            return 1
        if self._stopping and code == 0:
            return 0
        say(f"the process that answers HTTP {_ended(code)}: the server ends")
        return 1

    def _settle(self) -> None:
        """Replace workers that have ended, once the front has told all that it knew of them."""
        ended = [
            (number, worker)
            for number, worker in self._workers.items()
            if worker.status is not None and worker.lost is not None
        ]
        for number, worker in ended:
            del self._workers[number]
            reported = _reported(worker.report)
            os.close(worker.report)
            worker.usage.slots.close()
            if self._failed:
                continue
            fault = self._fault(number, worker, reported)
            if fault:
                self._fail(fault)
            else:
                self._start()

    def _fault(self, number: int, worker: _Worker, reported: str) -> str | None:
        """Why a worker's end is the server's; None where another worker may do better."""
        assert worker.status is not None
        assert worker.lost is not None
        if reported:
            return reported
        why = worker.why or worker.lost.why
        how = f"was ended, for {why}" if why else _ended(worker.status)
        loaded = worker.ready or any(other.ready for other in self._workers.values())
        if not loaded and worker.why and not worker.memory:
            return f"worker {number} {how}; MLFLOW_MODELS_LOAD_TIMEOUT sets another limit"
        if not loaded and not worker.lost.why:
            enough = " (is there enough memory for the model in each worker?)"
            return f"worker {number} {how} while it loaded the model{enough}"
        if worker.lost.answered or worker.lost.busy:
            self._idle_deaths = 0
        else:
            self._idle_deaths += 1
        if self._idle_deaths >= _IDLE_DEATHS:
            return f"worker {number} {how}, the {_IDLE_DEATHS}th in a row that answered no request"
        say(f"worker {number} {how}: another one is started")
        return None

    def _fail(self, message: str) -> None:
        say(message)
        self._failed = True
        self._deadline = time.monotonic() + self._settings.stop_wait
        control.send(self._control, Message("fail"))

    def _start(self) -> None:
        """Fork a worker, and give the front its sockets."""
        self._number += 1
        # One more than it has lanes, for its pulse.
        pairs = [socket.socketpair() for _ in range(self._settings.concurrency + 1)]
        report, report_end = os.pipe()
        slots = memory.Slots(self._settings.concurrency)

        def close() -> None:
            self._control.close()
            for number in (self._wakeup, self._wakeup_end, report):
                os.close(number)
            for other in self._workers.values():
                os.close(other.report)
                other.usage.slots.close()
            for end, _ in pairs:
                end.close()

        def work() -> int:
            from mlflow_model_server import worker

            *lanes, pulse = [end for _, end in pairs]
            return worker.run(self._settings, lanes, pulse, slots, report_end)

        pid = _fork(work, close=close)
        os.close(report_end)
        os.set_blocking(report, False)
        usage = memory.Usage(pid, slots)
        self._workers[self._number] = _Worker(pid, report, usage, time.monotonic())
        message = Message("worker", self._number)
        control.send(self._control, message, [end.fileno() for end, _ in pairs])
        for end, lane in pairs:
            end.close()
            lane.close()

    def _end_workers(self) -> None:
        """Wait for the workers, which end with the front; kill those that load or hang."""
        deadline = time.monotonic() + _END_WAIT
        left = {worker.pid: worker for worker in self._workers.values() if worker.status is None}
        for worker in left.values():
            if not worker.ready:
                os.kill(worker.pid, signal.SIGKILL)
        while left:
            if time.monotonic() >= deadline:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                deadline = float("inf")
            for pid in list(left):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    del left[pid]
            if left:
                select.select([self._wakeup], [], [], 0.05)


def _reported(report: int) -> str:
    """Read what a worker that has ended wrote to its pipe; empty where that is nothing."""
    try:
        return os.read(report, 4096).decode(errors="replace")
    except BlockingIOError:
        return ""  # a process that the model has started holds the other end open


def _ended(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
