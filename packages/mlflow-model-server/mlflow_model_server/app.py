"""The ASGI app of the front: it reads requests, has workers answer them, counts and logs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from mlflow_model_server import answers, frames, metrics
from mlflow_model_server.connections import REFUSED
from mlflow_model_server.frames import Answer, Request
from mlflow_model_server.unsent import PIECE

if TYPE_CHECKING:
    from mlflow_model_server.access_log import AccessLog
    from mlflow_model_server.dispatcher import Dispatcher, Task
    from mlflow_model_server.settings import Settings

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_HEALTH = ("/ping", "/health")
_METRICS = "/metrics"
_INVOCATIONS = "/invocations"
_READ = ("GET", "HEAD", "OPTIONS")
_METHODS = {
    **dict.fromkeys((*_HEALTH, _METRICS, "/version"), _READ),
    _INVOCATIONS: ("OPTIONS", "POST"),
}
FIRST = (*_HEALTH, _METRICS)
"""Paths that are answered even where there are too many clients for all others."""
_UNLOGGED = set(FIRST)
_JSON = ("content-type", "application/json")
_CLIENT_LEFT = 499


_FULL = "more requests wait than can be answered soon"


class _ClientLeftError(Exception):
    """Nobody waits for the answer any more."""


class _FullError(Exception):
    """Refusal: the server has no room for the request."""


@dataclass
class App:
    """The app.

    Attributes:
        abort: ends the connection of a request.
        closing: the server was told to stop: clients are to come by new connections, and soon not
            at all.
        held: bytes of requests that are being read, or wait, or are with a worker.
    """

    settings: Settings
    dispatcher: Dispatcher
    metrics: metrics.Metrics
    log: AccessLog
    abort: Callable[[Scope], None]
    closing: bool = False
    held: int = 0
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _prefix: str = field(default_factory=lambda: os.urandom(4).hex())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.perf_counter()
        exchange = _Exchange(
            f"{self._prefix}-{next(self._numbers):x}",
            deadline=asyncio.get_running_loop().time() + self.settings.request_timeout,
            unread=_has_body(scope),
        )
        self.metrics.in_flight.inc()
        try:
            answer = await self._answer(scope, receive, exchange)
            self.held -= exchange.held
            exchange.held = 0
            await self._send(answer, scope, send, exchange)
        except _ClientLeftError:
            answer = Answer(_CLIENT_LEFT, [], b"")
        finally:
            self.held -= exchange.held
            self.dispatcher.unsent.release(exchange.reserved)
            self.metrics.in_flight.dec()
        seconds = time.perf_counter() - began
        path = scope["path"] if scope["path"] in _METHODS else "other"
        self.metrics.count(path, answer.status, seconds, exchange.received, len(answer.body))
        unlogged = (path in _UNLOGGED and answer.status < 400) or scope.get(REFUSED)
        if self.settings.access_log and not unlogged:
            self.log.add(_line(scope["method"], path, answer, seconds, exchange))
        if exchange.unread:
            await _read_rest(receive, exchange)
            await send({"type": "http.response.body", "body": b""})

    async def _send(self, answer: Answer, scope: Scope, send: Send, exchange: _Exchange) -> None:
        headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in answer.headers]
        headers.append((b"content-length", str(len(answer.body)).encode()))
        headers.append((b"x-request-id", exchange.identity.encode()))
        if self.closing or exchange.unread:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = answer.body
        if exchange.reserved > PIECE:
            await self._send_pieces(answer.body, scope, send, exchange)
            body = b""
        # A connection is closed after the last piece: that of a client that still sends, later.
        await send({"type": "http.response.body", "body": body, "more_body": exchange.unread})

    async def _send_pieces(
        self, body: bytes, scope: Scope, send: Send, exchange: _Exchange
    ) -> None:
        """Send a long answer as fast as its client reads it: the server waits for each piece."""
        with self.dispatcher.unsent.sending(
            exchange.reserved, partial(self.abort, scope)
        ) as sending:
            for start in range(0, len(body), PIECE):
                if sending.aborted:
                    raise _ClientLeftError
                piece = body[start : start + PIECE]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                sending.sent += len(piece)

    async def _answer(self, scope: Scope, receive: Receive, exchange: _Exchange) -> Answer:
        path, method = scope["path"], scope["method"]
        if answer := _without_model(path, method):
            return answer
        if path in _HEALTH:
            return self._health()
        if path == _METRICS:
            return Answer(200, [("content-type", metrics.CONTENT_TYPE)], self.metrics.text())
        headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"]]
        if not self.dispatcher.was_ready:
            return _unavailable("the model is still being loaded")
        if path == _INVOCATIONS:
            named = {name for name, _ in headers}
            if "content-type" not in named:
                return answers.error(
                    415,
                    "INVALID_PARAMETER_VALUE",
                    "the request has no content-type: application/json, text/csv or"
                    " application/vnd.apache.parquet",
                )
        # A small request is read all the same: its client keeps its connection.
        if exchange.unread and self.dispatcher.is_full and not _is_short(headers):
            return _unavailable(_FULL)
        try:
            async with asyncio.timeout_at(exchange.deadline):
                body = await self._read(headers, receive, exchange)
        except _FullError:
            return _unavailable(_FULL)
        except TimeoutError:
            return answers.error(
                408,
                "BAD_REQUEST",
                f"the request wasn't sent in {self.settings.request_timeout} seconds",
            )
        if body is None:
            limit = self.settings.max_request_bytes
            return answers.error(
                413, "INVALID_PARAMETER_VALUE", f"the request is larger than {limit} bytes"
            )
        if self.dispatcher.is_full:
            return _unavailable(_FULL)
        head = Request(
            exchange.identity,
            "GET" if method == "HEAD" else method,
            path,
            scope["raw_path"].decode("latin-1"),
            scope["query_string"].decode("latin-1"),
            headers,
        )
        return await self._dispatch(frames.encode(head, body), receive, exchange)

    def _health(self) -> Answer:
        if self.closing:
            return _unavailable("the server is ending")
        if not self.dispatcher.is_ready:
            return _unavailable("no worker has its model loaded")
        return Answer(200, [_JSON], b"\n")

    async def _read(
        self, headers: list[tuple[str, str]], receive: Receive, exchange: _Exchange
    ) -> bytes | None:
        """The request's body; None when it is too large."""
        limit = self.settings.max_request_bytes
        lengths = [value for name, value in headers if name == "content-length"]
        if any(int(length) > limit for length in lengths if length.isdigit()):
            return None
        pieces = []
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientLeftError
            piece = message.get("body", b"")
            exchange.received += len(piece)
            more = exchange.unread = message.get("more_body", False)
            if exchange.received > limit:
                return None
            if self.held + len(piece) > self.settings.queue_bytes:
                raise _FullError
            self.held += len(piece)
            exchange.held += len(piece)
            pieces.append(piece)
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    async def _dispatch(self, frame: list[bytes], receive: Receive, exchange: _Exchange) -> Answer:
        task = self.dispatcher.submit(frame)
        seconds = self.settings.request_timeout
        limit = asyncio.get_running_loop().call_later(seconds, _expire, task, seconds)
        try:
            if task.worker == 0 and not task.answer.done():
                await _wait(task, receive)
            answer = await task.answer
        finally:
            limit.cancel()
            exchange.worker, exchange.reserved = task.worker, task.reserved
        return answer


@dataclass
class _Exchange:
    """A request, and what is logged of it.

    Attributes:
        identity: its number, for the log.
        deadline: when all of it is to be there, by the event loop's clock.
        unread: some of its body isn't read yet.
        received: bytes of its body.
        worker: the one that has answered it; 0 for none.
        held: bytes of its body that count as held by the server.
        reserved: bytes of its answer that do.
    """

    identity: str
    deadline: float
    unread: bool
    received: int = 0
    worker: int = 0
    held: int = 0
    reserved: int = 0


def _without_model(path: str, method: str) -> Answer | None:
    """The answer that only depends on the path and the method; None for all that is served.

    MLflow's app is not asked: it would answer /docs, /redoc and /openapi.json as well.
    """
    methods = _READ if path == "*" else _METHODS.get(path)
    if methods is None:
        return Answer(404, [_JSON], b'{"detail":"Not Found"}')
    allow = ("allow", ", ".join(methods))
    if method not in methods or (path == "*" and method != "OPTIONS"):
        return Answer(405, [_JSON, allow], b'{"detail":"Method Not Allowed"}')
    return Answer(200, [allow], b"") if method == "OPTIONS" else None


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _is_short(headers: list[tuple[str, str]]) -> bool:
    """Tell whether a request's body is one that is sent in one piece."""
    lengths = [value for name, value in headers if name == "content-length" and value.isdigit()]
    return any(int(length) <= PIECE for length in lengths)


async def _read_rest(receive: Receive, exchange: _Exchange) -> None:
    """Read what is left of a request, until its deadline.

    A connection that is closed before is reset, and a client that still sends loses its answer.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(exchange.deadline):
            while (await receive()).get("more_body", False):
                pass


async def _wait(task: Task, receive: Receive) -> None:
    """Wait for the answer to a request that has no worker yet, as long as its client does."""
    gone = asyncio.ensure_future(receive())
    try:
        waited: set[asyncio.Future[Any]] = {task.answer, gone}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not task.answer.done():
            task.answer.cancel()
            raise _ClientLeftError
    finally:
        gone.cancel()


def _expire(task: Task, seconds: int) -> None:
    """Answer in the worker's place, which goes on, for a prediction can't be interrupted.

    MLflow's app answers with words that it calls JSON, and that are none.
    """
    if not task.answer.done():
        message = f"the prediction took longer than {seconds} s"
        task.answer.set_result(answers.error(504, "DEADLINE_EXCEEDED", message))


def _unavailable(why: str) -> Answer:
    answer = answers.error(503, "TEMPORARILY_UNAVAILABLE", why)
    return answer._replace(headers=[*answer.headers, ("retry-after", "1")])


def _line(method: str, path: str, answer: Answer, seconds: float, exchange: _Exchange) -> str:
    now = time.time()
    clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    return (
        f"{clock}.{int(now % 1 * 1000):03}Z {method} {path} {answer.status}"
        f" in={exchange.received} out={len(answer.body)} ms={seconds * 1000:.1f}"
        f" worker={exchange.worker or '-'} request={exchange.identity}"
    )
