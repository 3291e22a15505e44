"""Admit requests to MLflow's app in numbers and sizes that a worker can bear.

MLflow keeps each body in memory, several times, has as many threads as asyncio gives it, and a
queue without an end. Whatever is beyond the limits here gets its answer at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_entrypoint import settings, unpacking
from mlflow_entrypoint.processes import PREFIX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Message, Receive, Send], Awaitable[None]]

QUEUE = 256
"""Requests of one worker that wait for others to end."""
QUEUE_SECONDS = 10
STREAMS = 512
"""Requests of one worker that may take long: artifacts, and what is passed on to others' models."""
BODY_SECONDS = 300
"""Limit of a body that is kept in memory. Artifacts take as long as their bytes go on coming."""
BUFFERED_BODIES = 4
"""Bodies of the largest size that a worker keeps in memory."""
RETRY_SECONDS = 1

_LENGTH = b"content-length"
_ENCODING = b"content-encoding"
_OFFERS = (b"upgrade", b"http2-settings")
_ARTIFACTS = "/mlflow-artifacts/artifacts/"
_LONG = ("/gateway/", "/mlflow/assistant/")
_BUSY = "The server is busy: try again later."
BUSY_ANSWER = (
    f"HTTP/1.1 503 Service Unavailable\r\nretry-after: {RETRY_SECONDS}\r\n"
    f"content-type: text/plain; charset=utf-8\r\ncontent-length: {len(_BUSY)}\r\n"
    f"connection: close\r\n\r\n{_BUSY}"
).encode()

_logger = logging.getLogger("uvicorn.error")


class Limits(NamedTuple):
    """Limits of what a worker admits."""

    body: int
    """Bytes of a request that is no artifact; 0 for any number."""
    running: int
    """Requests that are worked on at a time, but for those that may take long."""
    health: frozenset[str]
    """Paths that are always admitted."""


def limits() -> Limits:
    """The limits that the environment sets."""
    # A request more than the database has connections would wait for one anyway, in a thread.
    # Zero counts as unset for MLflow, and a negative overflow has no limit for SQLAlchemy.
    size = int(os.environ.get("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE") or 0) or 5
    overflow = int(os.environ.get("MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW") or 0) or 10
    return Limits(
        body=settings.number(os.environ, settings.MAX_REQUEST_BYTES),
        running=size + overflow if overflow > 0 else STREAMS,
        health=frozenset({"/health", f"{os.environ.get(PREFIX, '')}/health"}),
    )


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _GoneError(Exception):
    """The client has closed the connection."""


class _Body:
    """A body that is kept in memory."""

    def __init__(self) -> None:
        self.size = 0
        self.more = True
        self._chunks: list[bytes] = []

    def add(self, chunk: bytes, *, more: bool) -> None:
        self.size += len(chunk)
        self.more = more
        self._chunks.append(chunk)

    def whole(self) -> bytes:
        """Read the whole body."""
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0]

    def replay(self, receive: Receive) -> Receive:
        """Give the app the whole body, and then what else happens to the connection."""

        async def again() -> Message:
            if not self._chunks:
                return await receive()
            whole = self.whole()
            self._chunks.clear()
            return {"type": "http.request", "body": whole, "more_body": False}

        return again


class Admission:
    """An ASGI app that admits requests to another one."""

    def __init__(self, app: App, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.running)
        self._queued = 0
        self._streams = 0
        self._buffered = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Admit a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = _plain(scope)
        if scope["path"] in self._limits.health:
            await self._app(scope, receive, send)
            return
        try:
            await self._admit(scope, receive, send)
        except _RefusedError as error:
            await _answer(scope, send, error.status, str(error))
        except _GoneError:
            return

    async def _admit(self, scope: Message, receive: Receive, send: Send) -> None:
        if _ARTIFACTS in scope["path"]:
            await self._stream(scope, receive, send)
            return
        body = _Body()
        try:
            await self._read(scope, receive, body)
            await self._check_unpacked(scope, body)
            replay = body.replay(receive)
            if any(marker in scope["path"] for marker in _LONG):
                await self._stream(scope, replay, send)
                return
            await self._wait_for_slot()
            try:
                await self._app(scope, replay, send)
            finally:
                self._slots.release()
        finally:
            self._buffered -= body.size

    async def _stream(self, scope: Message, receive: Receive, send: Send) -> None:
        if self._streams >= STREAMS:
            raise _busy("%d requests that may take long", STREAMS)
        self._streams += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._streams -= 1

    async def _read(self, scope: Message, receive: Receive, body: _Body) -> None:
        """Read the whole body, and count it among what is kept."""
        length = next((int(value) for name, value in scope["headers"] if name == _LENGTH), 0)
        self._check(length, length)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while body.more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _GoneError
                    chunk = message.get("body", b"")
                    self._check(body.size + len(chunk), len(chunk))
                    self._buffered += len(chunk)
                    body.add(chunk, more=message.get("more_body", False))
        except TimeoutError:
            raise _RefusedError(
                HTTPStatus.REQUEST_TIMEOUT, f"The body has not come within {BODY_SECONDS} s."
            ) from None

    async def _check_unpacked(self, scope: Message, body: _Body) -> None:
        encoding = next((value for name, value in scope["headers"] if name == _ENCODING), b"")
        if not encoding or not self._limits.body:
            return
        name = encoding.decode("latin-1").strip().lower()
        if await asyncio.to_thread(unpacking.is_larger, body.whole(), name, self._limits.body):
            raise self._too_large()

    def _too_large(self) -> _RefusedError:
        return _RefusedError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The body is larger than {self._limits.body} bytes ({settings.MAX_REQUEST_BYTES[0]}).",
        )

    def _check(self, size: int, more: int) -> None:
        limit = self._limits.body
        if not limit:
            return
        if size > limit:
            raise self._too_large()
        if self._buffered and self._buffered + more > BUFFERED_BODIES * limit:
            raise _busy("%d bytes of bodies in memory", self._buffered)

    async def _wait_for_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        if self._queued >= QUEUE:
            raise _busy("%d requests wait", QUEUE)
        self._queued += 1
        try:
            async with asyncio.timeout(QUEUE_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise _busy("requests wait for more than %d s", QUEUE_SECONDS) from None
        finally:
            self._queued -= 1


def _plain(scope: Message) -> Message:
    """The request without offers of other protocols, and a HEAD as the GET that it asks about.

    Werkzeug takes an offer of WebSockets for one that was accepted, and MLflow's own routes know no
    HEAD. Uvicorn leaves the body of its answer out. A HEAD of an artifact is Flask's: a GET would
    fetch all of it.
    """
    headers = [header for header in scope["headers"] if header[0] not in _OFFERS]
    method = scope["method"]
    if method == "HEAD" and _ARTIFACTS not in scope["path"]:
        method = "GET"
    return {**scope, "headers": headers, "method": method}


def _busy(reason: str, number: int) -> _RefusedError:
    _logger.warning("Busy: " + reason + ", 503 for others.", number)
    return _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, _BUSY)


async def _answer(scope: Message, send: Send, status: HTTPStatus, text: str) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(text)).encode()),
    ]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", str(RETRY_SECONDS).encode()))
    if any(name == b"expect" for name, _ in scope["headers"]):
        # The client may keep its body back, or not: nothing tells the next request from it.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
