"""Which worker answers which request.

A worker has several sockets, its lanes, with one request at a time on each. A request goes to the
worker with the fewest; those for which there is no lane wait their turn.

What was in flight in a worker that died goes to another one: a prediction changes nothing that
could tell whether it was made once or twice. But a request may be why the worker died. So the third
and last try is made alone, in a worker that answers nothing else meanwhile: no request is given up
for what another one did.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, cast

from mlflow_model_server import answers
from mlflow_model_server.frames import LENGTHS, Answer, decode_answer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine

TRIES = 3
"""Workers that one request may take with it."""


class Task:
    """A request on its way."""

    __slots__ = ("answer", "deaths", "frame", "worker")

    def __init__(self, frame: list[bytes], answer: asyncio.Future[Answer]) -> None:
        self.frame = frame
        self.answer = answer
        self.deaths = 0
        self.worker = 0
        """The one that has it; 0 while it waits."""


class Lane(asyncio.Protocol):
    """One socket of a worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.task: Task | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what to write to."""
        # uvloop's transports do what asyncio's do and are not derived from them.
        self._transport = cast("asyncio.Transport", transport)
        if self._worker.lost:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The worker has ended."""
        self._worker.lose()

    def data_received(self, data: bytes) -> None:
        """Collect an answer."""
        self._buffer += data
        if len(self._buffer) < LENGTHS.size:
            return
        head, body = LENGTHS.unpack_from(self._buffer)
        start = LENGTHS.size + head
        if len(self._buffer) < start + body:
            return
        view = memoryview(self._buffer)
        answer = decode_answer(bytes(view[LENGTHS.size : start]), bytes(view[start:]))
        view.release()
        self._buffer = bytearray()
        self._worker.receive(self, answer)

    def send(self, task: Task) -> None:
        """Send a request."""
        assert self._transport is not None
        self.task = task
        self._transport.writelines(task.frame)

    def abort(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.abort()


class Worker:
    """A worker, as the front sees it."""

    def __init__(self, number: int, dispatcher: Dispatcher) -> None:
        self.number = number
        self.lanes: list[Lane] = []
        self.idle: list[Lane] = []
        self.busy = 0
        self.alone = False
        """It has a request that must be alone."""
        self.answered = False
        self.ready = False
        self.lost = False
        self._dispatcher = dispatcher

    def receive(self, lane: Lane, answer: Answer) -> None:
        """Take an answer, or the word that a lane is ready."""
        task, lane.task = lane.task, None
        self.idle.append(lane)
        if task is None:
            if not self.ready:
                self.ready = True
                self._dispatcher.became_ready(self)
        else:
            self.busy -= 1
            self.alone = False
            self.answered = True
            if not task.answer.done():
                task.answer.set_result(answer)
        self._dispatcher.pump()

    def assign(self, task: Task) -> None:
        """Have it answer a request: the lane that was used last is the one whose thread is warm."""
        lane = self.idle.pop()
        self.busy += 1
        self.alone = task.deaths == TRIES - 1
        task.worker = self.number
        lane.send(task)

    def lose(self) -> None:
        """Close all lanes, and give back what was in flight."""
        if self.lost:
            return
        self.lost = True
        for lane in self.lanes:
            lane.abort()
        self._dispatcher.lose(self, [lane.task for lane in self.lanes if lane.task])


class Dispatcher:
    """All workers, and the requests that wait for one.

    Args:
        ready: called with a worker that has loaded its model.
        lost: called with a worker that has ended, and whether it was answering.
    """

    def __init__(
        self, ready: Callable[[Worker], None], lost: Callable[[Worker, bool], None]
    ) -> None:
        self.workers: dict[int, Worker] = {}
        self.was_ready = False
        self._ready = ready
        self._lost = lost
        self._waiting: deque[Task] = deque()
        self._last_tries: deque[Task] = deque()
        self._given_up = False

    def add(self, number: int, sockets: list[socket.socket]) -> Coroutine[None, None, None]:
        """Add a worker, at once; its sockets are connected by what is given back."""
        worker = self.workers[number] = Worker(number, self)
        worker.lanes = [Lane(worker) for _ in sockets]
        return _connect(worker.lanes, sockets)

    def submit(self, frame: list[bytes]) -> Task:
        """Have a request answered; it waits while its `worker` is 0."""
        task = Task(frame, asyncio.get_running_loop().create_future())
        if self._given_up and not self.workers:
            task.answer.set_result(_none_left())
            return task
        self._waiting.append(task)
        self.pump()
        return task

    def pump(self) -> None:
        """Give waiting requests to workers, first come, first served."""
        reserved = self._try_alone()
        while self._waiting:
            task = self._waiting[0]
            if not task.answer.done():
                free = [
                    one
                    for one in self.workers.values()
                    if one.idle and not one.alone and one is not reserved and not one.lost
                ]
                if not free:
                    return
                min(free, key=lambda one: one.busy).assign(task)
            self._waiting.popleft()

    def _try_alone(self) -> Worker | None:
        """Start last tries, each in an idle worker; the worker that is kept free for the next."""
        while self._last_tries:
            task = self._last_tries[0]
            if not task.answer.done():
                candidates = [one for one in self.workers.values() if one.idle and not one.alone]
                if not candidates:
                    return None
                best = min(candidates, key=lambda one: one.busy)
                if best.busy:
                    return best
                best.assign(task)
            self._last_tries.popleft()
        return None

    @property
    def is_ready(self) -> bool:
        """Whether a worker has its model."""
        return any(worker.ready for worker in self.workers.values())

    def became_ready(self, worker: Worker) -> None:
        """Count it in."""
        self.was_ready = True
        self._ready(worker)

    def lose(self, worker: Worker, tasks: list[Task]) -> None:
        """Forget a worker, and have what it was answering answered by others."""
        del self.workers[worker.number]
        for task in reversed(tasks):
            task.worker = 0
            task.deaths += 1
            if task.answer.done():
                continue
            if task.deaths >= TRIES:
                task.answer.set_result(
                    answers.error(
                        500, "INTERNAL_ERROR", "the worker died while it answered this request"
                    )
                )
            elif task.deaths == TRIES - 1:
                self._last_tries.append(task)
            else:
                self._waiting.appendleft(task)
        self._lost(worker, bool(tasks))
        if self._given_up:
            self.give_up()
        self.pump()

    def give_up(self) -> None:
        """No other worker will come: answer what none is left for."""
        self._given_up = True
        if self.workers:
            return
        for task in (*self._waiting, *self._last_tries):
            if not task.answer.done():
                task.answer.set_result(_none_left())
        self._waiting.clear()
        self._last_tries.clear()


async def _connect(lanes: list[Lane], sockets: list[socket.socket]) -> None:
    loop = asyncio.get_running_loop()
    for lane, one in zip(lanes, sockets, strict=True):
        await loop.create_unix_connection(partial(_same, lane), sock=one)


def _same(lane: Lane) -> Lane:
    return lane


def _none_left() -> Answer:
    return answers.error(503, "TEMPORARILY_UNAVAILABLE", "no worker is left: the server ends")
