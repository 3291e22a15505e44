"""The process that speaks HTTP: uvicorn with the small app of `app`.

It loads neither MLflow nor NumPy: it starts at once, and stays small.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from importlib import metadata
from typing import TYPE_CHECKING

import uvicorn
from mlflow_entrypoint.errors import say

from mlflow_model_server import connections, control, listening
from mlflow_model_server.access_log import AccessLog
from mlflow_model_server.app import FIRST, App
from mlflow_model_server.control import Message
from mlflow_model_server.dispatcher import Dispatcher, DispatchLimits
from mlflow_model_server.metrics import Metrics
from mlflow_model_server.unsent import Unsent

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from http import HTTPStatus

    from mlflow_model_server.app import Scope
    from mlflow_model_server.dispatcher import Worker
    from mlflow_model_server.settings import Settings

_TICK = 0.02
_LEAVE_WAIT = 2.0
"""Seconds in which the server ends once all connections are closed: workers, too, have to end."""
_FIRST_REQUEST_WAIT = 1.0
"""Seconds for connections that were accepted to send their first request."""


def run(settings: Settings, listener: socket.socket, manager: socket.socket) -> int:
    """Be the front.

    Returns:
        the exit code.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        # The manager says when to stop; where it is gone, the end of its socket does.
        signal.signal(number, lambda *_: None)
    front = _Front(settings, listener, manager)
    with asyncio.Runner(loop_factory=front.configuration.get_loop_factory()) as runner:
        runner.run(front.serve())
    return 0


def mlflow_version() -> str:
    """Of the distribution that is installed: mlflow, or mlflow-skinny alone."""
    try:
        return metadata.version("mlflow")
    except metadata.PackageNotFoundError:
        return metadata.version("mlflow-skinny")


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals alone: uvicorn would stop at once."""
        yield


class _Front:
    def __init__(self, settings: Settings, listener: socket.socket, manager: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._manager = manager
        self._metrics = Metrics()
        self._dispatcher = Dispatcher(
            DispatchLimits(
                settings.request_timeout, settings.workers * settings.concurrency, settings.queue
            ),
            Unsent(settings.max_unsent_bytes),
            self._ready,
            self._lost,
        )
        self._log = AccessLog(sys.stdout)
        self._app = App(settings, self._dispatcher, self._metrics, self._log, self._abort)
        self._tasks: set[asyncio.Task[None]] = set()
        self._gate = connections.Gate(
            connections.limits(settings, connections.open_files()),
            FIRST,
            connections.Report(self._count_refused, say),
        )
        self.configuration = self._gate.configuration(self._app)
        self._server = _Server(self.configuration)

    async def serve(self) -> None:
        """Serve until the manager says that it is enough."""
        self._metrics.describe(mlflow_version=mlflow_version())
        self._metrics.waiting.set_function(lambda: self._dispatcher.waiting)
        self._metrics.held.set_function(lambda: self._app.held)
        self._metrics.unsent.set_function(lambda: self._dispatcher.unsent.held)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._manager.fileno(), self._read_manager)
        self._begin(self._dispatcher.watch())
        self._begin(self._gate.close_overdue(self._server.server_state))
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            self._log.flush()

    def _read_manager(self) -> None:
        while True:
            try:
                received = control.receive(self._manager)
            except BlockingIOError:
                return
            if received is None:
                asyncio.get_running_loop().remove_reader(self._manager.fileno())
                self._dispatcher.give_up()
                self._stop()
                return
            self._handle(*received)

    def _handle(self, message: Message, files: list[int]) -> None:
        if message.kind == "worker":
            sockets = [socket.socket(fileno=file) for file in files]
            if self._dispatcher.was_ready:
                self._metrics.restarts.inc()
            self._begin(self._dispatcher.add(message.worker, sockets))
        elif message.kind == "ended":
            self._dispatcher.settle(message.worker, memory=message.memory, blamed=message.blamed)
        elif message.kind in ("stopped", "continued"):
            if worker := self._dispatcher.workers.get(message.worker):
                worker.stop(stopped=message.kind == "stopped")
        else:
            if message.kind == "fail":
                self._dispatcher.give_up()
            self._stop()

    def _count_refused(self, status: HTTPStatus, _: str) -> None:
        self._metrics.refused.labels(str(status.value)).inc()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _ready(self, worker: Worker) -> None:
        self._metrics.ready.inc()
        control.send(self._manager, Message("ready", worker.number))

    def _lost(self, worker: Worker) -> None:
        if worker.ready:
            self._metrics.ready.dec()
        message = Message(
            "lost",
            worker.number,
            busy=worker.busy > 0,
            answered=worker.answered,
            why=worker.why,
        )
        control.send(self._manager, message)

    def _abort(self, scope: Scope) -> None:
        """End the connection of a request whose client doesn't read its answer."""
        for connection in list(self._server.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and cycle.scope is scope:
                connection.transport.abort()

    def _stop(self) -> None:
        if not self._app.closing:
            self._app.closing = True
            self._begin(self._drain())
            limit = self._settings.stop_wait
            wait = max(limit / 2, limit - _LEAVE_WAIT)
            asyncio.get_running_loop().call_later(wait, self._abort_stalled)

    def _abort_stalled(self) -> None:
        """Leave clients who haven't sent their request, or haven't read their answer.

        uvicorn would wait for them without limit. Requests that workers have are still answered.
        """
        for connection in list(self._server.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is None or cycle.more_body or connection.transport.get_write_buffer_size():
                connection.transport.abort()

    async def _drain(self) -> None:
        """Stop listening after the wait for balancers; serve the connections queued by then."""
        try:
            if self._dispatcher.was_ready:
                await asyncio.sleep(self._settings.drain_wait)
                kept = self._listener.dup()
                for server in self._server.servers:
                    server.close()
                # So that their event loop accepts no more.
                await asyncio.sleep(_TICK)
                await listening.shut(kept, self._admit)
                await self._first_requests()
        finally:
            self._server.should_exit = True

    async def _admit(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = self.configuration.http_protocol_class(  # type: ignore[call-arg]
                config=self.configuration,
                server_state=self._server.server_state,
                app_state={},
                _loop=loop,
            )
            return made

        await loop.connect_accepted_socket(protocol, connection)

    async def _first_requests(self) -> None:
        """Wait for what clients have connected for: a connection that is closed now resets them."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _FIRST_REQUEST_WAIT
        while loop.time() < deadline and any(
            getattr(connection, "cycle", None) is None
            for connection in self._server.server_state.connections
        ):
            await asyncio.sleep(_TICK)
