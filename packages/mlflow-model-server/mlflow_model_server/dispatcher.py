"""Assignment of requests to workers.

A worker has several sockets, its lanes, with one request at a time on each. A request goes to the
worker with the fewest; those for which there is no lane wait their turn, as many as are answered
soon.

What was in flight in a worker that died goes to another one: a prediction changes nothing that
could tell whether it was made once or twice. But a request may be why the worker died. So the third
and last try is made alone, in a worker that answers nothing else meanwhile: no request is given up
for what another one did. One that has used up a worker's memory is not tried again: the next worker
would die of it, too.

A worker with a prediction that takes longer than it may gets no more requests, and has a moment to
answer those that it has. Then it is given up, for a prediction can't be interrupted; so is one that
was stopped, or whose threads don't run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from mlflow_model_server import answers
from mlflow_model_server.frames import LENGTHS, Answer, decode_answer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Coroutine

    from mlflow_model_server.unsent import Unsent

TRIES = 3
"""Workers that one request may take with it."""
GRACE = 1.0
"""Seconds in which a worker may still answer when it is overdue, or go on when it was stopped."""
_TICK = 0.25
"""Seconds between two looks at the workers."""
_PULSE = 1.0
"""Seconds between two questions whether a worker's threads run."""
_PATIENCE = 0.1
"""Seconds that a request may wait for a worker even where predictions take less: a burst."""
_STANDING = 0.75
"""Share of a queue that may be filled when it has not been empty for as long as one may wait. A
burst is over by then, and what goes on is overload: answers are to take no more than twice the
time of one alone, the variation of that time included."""
_WEIGHT = 0.05
"""Weight of the latest prediction in the mean of the seconds that they take."""


@dataclass(frozen=True)
class DispatchLimits:
    """Limits of the dispatcher.

    Attributes:
        seconds: that a worker may take for one request.
        lanes: of all workers together.
        waiting: requests that may wait for a lane; None for as many as get one within the time
            that a prediction takes.
    """

    seconds: float
    lanes: int
    waiting: int | None = None


class Task:
    """A request on its way."""

    __slots__ = ("answer", "deaths", "frame", "reserved", "worker")

    def __init__(self, frame: list[bytes], answer: asyncio.Future[Answer]) -> None:
        self.frame = frame
        self.answer = answer
        self.deaths = 0
        self.reserved = 0
        """Bytes of its answer that `Unsent` counts until they are released."""
        self.worker = 0
        """The one that has it; 0 while it waits."""


class End(asyncio.Protocol):
    """Front's end of one of a worker's sockets."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what to write to."""
        # uvloop's transports do what asyncio's do and are not derived from them.
        self._transport = cast("asyncio.Transport", transport)
        if self._worker.lost:
            self._transport.abort()

    def abort(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.abort()


class Lane(End):
    """A socket for requests."""

    def __init__(self, worker: Worker, unsent: Unsent) -> None:
        super().__init__(worker)
        self._unsent = unsent
        self._buffer = bytearray()
        self._reserved: int | None = None
        """Bytes that are reserved for the answer; None while that isn't asked for."""
        self._waits = False
        """True if it has asked, and there is no room yet."""
        self.task: Task | None = None
        self.began = 0.0
        """Moment at which it got its task, by the event loop's clock."""

    @property
    def is_answering(self) -> bool:
        """Tell whether the prediction is made, and its answer on the way."""
        return bool(self._buffer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The worker has ended."""
        self._worker.lose()
        self._release()

    def data_received(self, data: bytes) -> None:
        """Collect an answer, once there is room for it."""
        self._buffer += data
        if len(self._buffer) < LENGTHS.size:
            return
        if self._reserved is None and not self._waits:
            _, body = LENGTHS.unpack_from(self._buffer)
            self._reserve(body)
        self._deliver()

    def _deliver(self) -> None:
        """Hand over the answer where all of it is here."""
        head, body = LENGTHS.unpack_from(self._buffer)
        start = LENGTHS.size + head
        if self._waits or len(self._buffer) < start + body:
            return
        view = memoryview(self._buffer)
        answer = decode_answer(bytes(view[LENGTHS.size : start]), bytes(view[start:]))
        view.release()
        self._buffer = bytearray()
        reserved, self._reserved = self._reserved or 0, None
        self._worker.receive(self, answer, reserved)

    def _reserve(self, size: int) -> None:
        assert self._transport is not None
        if self._unsent.reserve(size, self._resume):
            self._reserved = size
        else:
            self._waits = True
            self._transport.pause_reading()

    def _resume(self, size: int) -> None:
        """Read on: `size` bytes have been reserved."""
        self._waits = False
        if self._worker.lost or self._transport is None:
            self._unsent.release(size)
            return
        self._reserved = size
        self._transport.resume_reading()
        self._deliver()

    def _release(self) -> None:
        reserved, self._reserved = self._reserved, None
        if reserved:
            self._unsent.release(reserved)

    def send(self, task: Task) -> None:
        """Send a request."""
        assert self._transport is not None
        self.task = task
        self.began = asyncio.get_running_loop().time()
        self._transport.writelines(task.frame)


class Pulse(End):
    """The socket by which a worker says that its threads run."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self.missed = 0
        """Questions that came due while one was unanswered."""
        self._asked = False

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        """Note that the worker runs, as it has answered."""
        self.missed, self._asked = 0, False

    def ask(self) -> None:
        """Ask, or count that there is no answer yet.

        Questions are counted, not seconds: a container that was paused has not hung.
        """
        if self._asked:
            self.missed += 1
        elif self._transport is not None:
            self._asked = True
            self._transport.write(b"?")


class Worker:
    """A worker, as the front sees it."""

    def __init__(self, number: int, dispatcher: Dispatcher) -> None:
        self.number = number
        self.lanes: list[Lane] = []
        self.pulse = Pulse(self)
        self.idle: list[Lane] = []
        self.busy = 0
        self.alone = False
        """True if it has a request that must be alone."""
        self.answered = False
        self.ready = False
        self.lost = False
        self.why = ""
        """True if it was given up."""
        self.late_since: float | None = None
        self.stopped_since: float | None = None
        self._dispatcher = dispatcher

    @property
    def answers(self) -> bool:
        """Tell whether a request that it got now would be answered."""
        return (
            self.ready and not self.lost and self.late_since is None and self.stopped_since is None
        )

    @property
    def takes(self) -> bool:
        """Tell whether it can be given a request."""
        return bool(self.idle) and self.answers and not self.alone

    def receive(self, lane: Lane, answer: Answer, reserved: int) -> None:
        """Take an answer, or the word that a lane is ready.

        Args:
            lane: which has brought it.
            answer: of the worker.
            reserved: bytes that `Unsent` counts for it.
        """
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
            self._dispatcher.measure(lane.began)
            if task.answer.done():
                self._dispatcher.unsent.release(reserved)
            else:
                task.reserved = reserved
                task.answer.set_result(answer)
        self._dispatcher.pump()

    def assign(self, task: Task) -> None:
        """Have it answer a request: the lane that was used last is the one whose thread is warm."""
        lane = self.idle.pop()
        self.busy += 1
        self.alone = task.deaths == TRIES - 1
        task.worker = self.number
        lane.send(task)

    def stop(self, *, stopped: bool) -> None:
        """Take note that a signal has stopped it, or has had it go on."""
        self.stopped_since = asyncio.get_running_loop().time() if stopped else None
        self._dispatcher.pump()

    def look(self, now: float, limit: float) -> None:
        """Give it up if it is stopped, overdue or stuck for longer than `GRACE`."""
        late = any(
            lane.task and not lane.is_answering and now - lane.began > limit for lane in self.lanes
        )
        if not late and self.late_since is not None:
            self.late_since = None
            self._dispatcher.pump()
        elif late and self.late_since is None:
            self.late_since = now
        if self.stopped_since is not None and now - self.stopped_since >= GRACE:
            self.lose("it was stopped")
        elif self.late_since is not None and now - self.late_since >= GRACE:
            self.lose(f"a prediction took longer than {limit:g} s")
        elif self.pulse.missed * _PULSE > limit + GRACE:
            self.lose(f"its threads have not run for {limit:g} s")

    def lose(self, why: str = "") -> None:
        """Close all lanes. What was in flight is kept until the worker is known to have ended.

        Args:
            why: it is given up; empty where it has ended by itself.
        """
        if self.lost:
            return
        self.lost, self.why = True, why
        for end in (*self.lanes, self.pulse):
            end.abort()
        self._dispatcher.lose(self)


class Dispatcher:
    """Workers, and the requests that wait for one.

    Args:
        limits: what it allows.
        unsent: counts the bytes of answers.
        ready: called with a worker that has loaded its model.
        lost: called with a worker that has ended, or is to be; `settle` is called when it has.
    """

    def __init__(
        self,
        limits: DispatchLimits,
        unsent: Unsent,
        ready: Callable[[Worker], None],
        lost: Callable[[Worker], None],
    ) -> None:
        self.workers: dict[int, Worker] = {}
        self.was_ready = False
        self._limits = limits
        self.unsent = unsent
        self._ready = ready
        self._lost = lost
        self._waiting: deque[Task] = deque()
        self._last_tries: deque[Task] = deque()
        self._given_up = False
        self._seconds: float | None = None
        self._crowded_since: float | None = None
        """Moment at which the first of those that wait came; None while nothing waits."""

    def add(self, number: int, sockets: list[socket.socket]) -> Coroutine[None, None, None]:
        """Add a worker, at once; its sockets are connected by what is given back.

        Args:
            number: of the worker.
            sockets: its lanes, and last the one for its pulse.
        """
        worker = self.workers[number] = Worker(number, self)
        worker.lanes = [Lane(worker, self.unsent) for _ in sockets[1:]]
        return _connect(worker, sockets)

    @property
    def waiting(self) -> int:
        """Count the requests that wait for a worker."""
        return len(self._waiting) + len(self._last_tries)

    @property
    def is_full(self) -> bool:
        """Tell whether another request would wait too long for a worker."""
        if len(self._waiting) < self._most_waiting():
            return False
        return not any(worker.takes for worker in self.workers.values())

    def _most_waiting(self) -> float:
        """Count how many may wait: one for each lane waits for as long as a prediction takes.

        The lanes of workers that still load are about to take requests as well.
        """
        if self._limits.waiting is not None:
            return self._limits.waiting
        there = sum(len(worker.lanes) for worker in self.workers.values() if worker.ready)
        seconds = self._seconds or _PATIENCE
        longest = max(seconds, _PATIENCE)
        waiting = self._limits.lanes * longest / seconds
        now = asyncio.get_running_loop().time()
        if self._crowded_since is not None and now - self._crowded_since > longest:
            waiting *= _STANDING
        return waiting + max(0, self._limits.lanes - there)

    def measure(self, began: float) -> None:
        """Learn how long a lane takes for a request."""
        took = max(1e-6, asyncio.get_running_loop().time() - began)
        before = took if self._seconds is None else self._seconds
        self._seconds = before + _WEIGHT * (took - before)

    def submit(self, frame: list[bytes]) -> Task:
        """Have a request answered; it waits while its `worker` is 0."""
        task = Task(frame, asyncio.get_running_loop().create_future())
        if self._given_up and not self.workers:
            task.answer.set_result(_none_left())
            return task
        self._waiting.append(task)
        self.pump()
        if task.worker == 0:
            task.answer.add_done_callback(lambda _: self._forget(task))
        return task

    def _forget(self, task: Task) -> None:
        """Have one no longer wait: its client has left, or its time is over."""
        if task.worker == 0 and task in self._waiting:
            self._waiting.remove(task)
            self._note_crowd()

    def pump(self) -> None:
        """Give waiting requests to workers, first come, first served."""
        self._assign_waiting()
        self._note_crowd()

    def _note_crowd(self) -> None:
        if not self._waiting:
            self._crowded_since = None
        elif self._crowded_since is None:
            self._crowded_since = asyncio.get_running_loop().time()

    def _assign_waiting(self) -> None:
        reserved = self._try_alone()
        while self._waiting:
            task = self._waiting[0]
            if not task.answer.done():
                free = [
                    worker
                    for worker in self.workers.values()
                    if worker.takes and worker is not reserved
                ]
                if not free:
                    return
                min(free, key=_load).assign(task)
            self._waiting.popleft()

    def _try_alone(self) -> Worker | None:
        """Start last tries, each in an idle worker; the worker that is kept free for the next."""
        while self._last_tries:
            task = self._last_tries[0]
            if not task.answer.done():
                candidates = [worker for worker in self.workers.values() if worker.takes]
                if not candidates:
                    return None
                best = min(candidates, key=_load)
                if best.busy:
                    return best
                best.assign(task)
            self._last_tries.popleft()
        return None

    @property
    def is_ready(self) -> bool:
        """Tell whether a worker would answer a request now."""
        return any(worker.answers for worker in self.workers.values())

    def became_ready(self, worker: Worker) -> None:
        """Mark that the server has been ready, and report the worker to the manager."""
        self.was_ready = True
        self._ready(worker)

    async def watch(self) -> None:
        """Look after the workers for ever."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        while True:
            await asyncio.sleep(_TICK)
            now = loop.time()
            if now - asked >= _PULSE:
                asked = now
                for worker in self.workers.values():
                    if worker.ready and worker.stopped_since is None:
                        worker.pulse.ask()
            for worker in list(self.workers.values()):
                worker.look(now, self._limits.seconds)

    def lose(self, worker: Worker) -> None:
        """Tell of a worker that is lost, and have nothing wait for it."""
        self._lost(worker)
        if self._given_up:
            self.settle(worker.number)
        self.pump()

    def settle(self, number: int, *, memory: bool = False, blamed: Collection[int] = ()) -> None:
        """Forget a worker that has ended, and have what it was answering answered by others.

        Args:
            number: of the worker.
            memory: it has ended because its memory, or the container's, was used up.
            blamed: the lanes whose requests may have used it, where that is known.
        """
        worker = self.workers.get(number)
        if worker is None:
            return
        worker.lose()
        # Where nobody waits for another worker, losing it has settled it.
        if self.workers.pop(number, None) is None:
            return
        left = [(place, lane.task) for place, lane in enumerate(worker.lanes) if lane.task]
        suspects = [place for place, _ in left if not blamed or place in blamed]
        for place, task in reversed(left):
            task.worker = 0
            if task.answer.done():
                continue
            if memory and place in suspects:
                self._retry_suspect(task, known=len(suspects) == 1)
            elif memory or worker.why:
                self._waiting.appendleft(task)
            else:
                self._retry(task)
        if self._given_up:
            self.give_up()
        self.pump()

    def _retry(self, task: Task) -> None:
        task.deaths += 1
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

    def _retry_suspect(self, task: Task, *, known: bool) -> None:
        """Try a request alone, once: one of several may be innocent."""
        if known or task.deaths >= TRIES - 1:
            task.answer.set_result(answers.out_of_memory())
        else:
            task.deaths = TRIES - 1
            self._last_tries.append(task)

    def give_up(self) -> None:
        """No other worker will come: answer what none is left for."""
        self._given_up = True
        for worker in [worker for worker in self.workers.values() if worker.lost]:
            self.settle(worker.number)
        if self.workers:
            return
        for task in (*self._waiting, *self._last_tries):
            if not task.answer.done():
                task.answer.set_result(_none_left())
        self._waiting.clear()
        self._last_tries.clear()


def _load(worker: Worker) -> tuple[bool, int]:
    """A worker whose threads don't run, while an extension holds Python's lock, comes last."""
    return (worker.pulse.missed > 1, worker.busy)


async def _connect(worker: Worker, sockets: list[socket.socket]) -> None:
    loop = asyncio.get_running_loop()
    ends: list[End] = [*worker.lanes, worker.pulse]
    for end, connection in zip(ends, sockets, strict=True):
        await loop.create_unix_connection(partial(_same, end), sock=connection)


def _same(end: End) -> End:
    return end


def _none_left() -> Answer:
    return answers.error(503, "TEMPORARILY_UNAVAILABLE", "no worker is left: the server ends")
