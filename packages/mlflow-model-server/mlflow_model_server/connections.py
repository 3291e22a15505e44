"""HTTP connections: uvicorn's protocol on httptools, with limits, and with upgrades ignored.

uvicorn has no limit for the size of a request's head, for the time that it takes, or for idle
connections that have sent nothing. httptools takes a request that offers another protocol for one
without a body, so that the body would be the next request (Kludex/uvicorn#2722).
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import resource
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from uvicorn.server import ServerState

    from mlflow_model_server.settings import Settings

_FIELDS = 1000
"""The most fields of a head: each takes some 150 bytes beside its text."""
_PIPELINED = 32
"""The most requests that a connection may send before the first of them is answered."""
_HEADS = 32 << 20
"""Bytes of heads that are held for all clients: they take up to four times as much memory."""
REFUSED = "mlflow_model_server.refused"
"""Key in the scope of a request whose body turned out to be malformed: it is reported already."""
_SPARE = 128
"""Connections beyond the limit that are read: health checks on them are answered."""
_OTHER_FILES = 256
"""Files that are open beside connections and the workers' sockets, and some in reserve."""
_SPARE_WAIT = 2.0
"""Seconds in which a connection beyond the limit must have sent its request."""
_OVERDUE_EVERY = 0.5
"""Seconds between two looks for connections whose time is over."""
_SLICE = 8192
"""Bytes that are parsed at a time: as many may come after the last field that was counted."""
_TOO_MANY = "too many connections"
_YOUNG = (700, 10, 1 << 30)
"""Thresholds of the garbage collector: it never looks through old objects by itself."""
_OLD_EVERY = 60.0
"""Seconds between two looks through old objects."""
_FEW = 500
"""Connections with which such a look takes a few milliseconds."""
_LENGTHS = (b"content-length", b"transfer-encoding")


class ClientLimits(NamedTuple):
    """Limits of what one client, and all of them together, may take.

    Attributes:
        connections: open at a time.
        head_bytes: of a request's head.
        head_wait: seconds from the first byte of a head to its last.
        idle_wait: seconds that a connection may be open without a request.
    """

    connections: int
    head_bytes: int
    head_wait: float
    idle_wait: float


class _RefusedError(Exception):
    """A request is not taken; its connection ends."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


def open_files() -> int:
    """Raise the soft limit of open files to the hard one, and say how many that is."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def limits(settings: Settings, files: int) -> ClientLimits:
    """The limits that count.

    Args:
        settings: of the server.
        files: how many may be open.
    """
    # A worker that is replaced has its sockets while those of the one before are being closed.
    others = _OTHER_FILES + 2 * settings.workers * settings.concurrency
    return ClientLimits(
        connections=max(1, min(settings.max_connections, files - others - 2 * _SPARE)),
        head_bytes=settings.max_head_bytes,
        head_wait=settings.head_timeout,
        idle_wait=settings.idle_timeout,
    )


class Gate:
    """State that all connections share.

    Args:
        limits: of connections.
        first: paths whose requests are answered on connections beyond the limit, too.
        refused: called with the status and the reason of each request, or connection, that is not
            taken.
    """

    def __init__(
        self, limits: ClientLimits, first: Iterable[str], refused: Callable[[HTTPStatus, str], None]
    ) -> None:
        self.limits = limits
        self.first = frozenset(path.encode() for path in first)
        self.refused = refused
        self.held = 0
        """Bytes of heads: of such as aren't complete, and of requests that aren't answered."""

    def configuration(self, app: Callable[..., Awaitable[None]]) -> uvicorn.Config:
        """Configure uvicorn, with the parser and the event loop named, not looked for."""
        return uvicorn.Config(
            app,
            interface="asgi3",
            loop="uvloop",
            http=cast("type[asyncio.Protocol]", partial(Connection, self)),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=math.ceil(self.limits.idle_wait),
        )

    async def close_overdue(self, state: ServerState) -> None:
        """Close connections whose time is over, without end; and collect garbage.

        With 12 000 connections a look through all objects took 150 ms, in which nobody was
        answered, and found nothing: so it waits until there are few.
        """
        loop = asyncio.get_running_loop()
        gc.freeze()
        gc.set_threshold(*_YOUNG)
        collect_at = loop.time() + _OLD_EVERY
        while True:
            await asyncio.sleep(_OVERDUE_EVERY)
            now = loop.time()
            if now >= collect_at and len(state.connections) <= _FEW:
                gc.collect()
                collect_at = now + _OLD_EVERY
            for connection in list(state.connections):
                if isinstance(connection, Connection):
                    connection.expire(now)


class Connection(HttpToolsProtocol):
    """Connection of a client.

    Attributes:
        gate: what all share.
    """

    def __init__(self, gate: Gate, **options: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(**options)
        # After `Connection: close` no request follows: what does is refused.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self.gate = gate
        self._deadline = math.inf
        """End of the connection unless a head is complete, by the event loop's clock."""
        self._timed = False
        """The deadline is the one of a head of which something has come."""
        self._begun = False
        """The first byte of a head is there, and not yet its last."""
        self._in_body = False
        self._size = 0
        """Bytes of the head, or of the trailers, that is being read."""
        self._unparsed = 0
        """Bytes since a field, or a piece of a body, was complete: httptools keeps them."""
        self._unanswered = 0
        """Bytes of the heads of requests that aren't answered."""
        self._held = 0
        """What the gate has been told of."""
        self._lengths: list[tuple[bytes, bytes]] = []
        self._replaying = False
        self._ended = False
        """Nothing more is read."""
        self._spare = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a client, or send it away where there are too many."""
        super().connection_made(transport)
        beyond = len(self.connections) - self.gate.limits.connections
        self._spare = beyond > 0
        wait = _SPARE_WAIT if self._spare else self.gate.limits.idle_wait
        self._deadline = self.loop.time() + wait
        if beyond > _SPARE:
            self._end(_RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, _TOO_MANY))

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back what was held for the client."""
        super().connection_lost(exc)
        self._ended = True
        self._hold(0)

    def data_received(self, data: bytes) -> None:
        """Parse what a client sends."""
        self._unset_keepalive_if_required()
        if self._ended:
            return
        if not self._in_body:
            self._begin_wait()
        try:
            if len(data) <= _SLICE:
                self._parse(data)
            else:
                view = memoryview(data)
                for start in range(0, len(data), _SLICE):
                    self._parse(view[start : start + _SLICE])
        except _RefusedError as refused:
            self._end(refused)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if not isinstance(cause, _RefusedError):
                cause = _RefusedError(HTTPStatus.BAD_REQUEST, "the request is malformed")
            self._end(cause)

    def _parse(self, data: bytes | memoryview) -> None:
        self._unparsed += len(data)
        while True:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._stay()
        if not (self._begun or self._in_body):
            self._unparsed = 0
        self._check_size()
        self._hold(self._unanswered + self._size + self._unparsed)
        if self.gate.held > _HEADS and self._begun:
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests are being read")

    def _stay(self) -> None:
        """Go on in HTTP/1.1 after a request that offers another protocol.

        httptools would read no body, so a new parser does. It is told the length by a head, whose
        events are ignored.
        """
        self.parser = httptools.HttpRequestParser(self)
        if self._in_body:
            head = b"".join(b"%s: %s\r\n" % field for field in self._lengths)
            self._replaying = True
            try:
                self.parser.feed_data(b"POST / HTTP/1.1\r\n" + head + b"\r\n")
            finally:
                self._replaying = False

    def on_message_begin(self) -> None:
        """Begin a head."""
        if self._replaying:
            return
        if len(self.pipeline) >= _PIPELINED:
            raise _RefusedError(HTTPStatus.TOO_MANY_REQUESTS, "too many requests are pipelined")
        super().on_message_begin()
        self._begin_wait()
        self._begun = True
        self._size = 0
        self._lengths = []

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        if not self._replaying:
            super().on_url(url)
            self._grow(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; those of trailers are counted, and ignored."""
        if self._replaying:
            return
        self._grow(len(name) + len(value) + 4)
        if self._in_body:
            return
        if len(self.headers) >= _FIELDS:
            raise _RefusedError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head has too many fields"
            )
        super().on_header(name, value)
        if self.headers[-1][0] in _LENGTHS:
            self._lengths.append(self.headers[-1])

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the head leaves room for doubt."""
        if self._replaying:
            return
        version = self.parser.get_http_version()
        if fault := _fault(version, self.headers, self._lengths):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, fault)
        first = not self._spare or self.url.split(b"?")[0] in self.gate.first
        self.app = self.config.loaded_app if first else cast("Any", self._turn_away)
        super().on_headers_complete()
        if self._spare:
            self.cycle.keep_alive = False
        self._deadline, self._timed, self._begun, self._in_body = math.inf, False, False, True
        self._unanswered += self._size
        self._size = self._unparsed = 0

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._size = self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the body, which isn't there yet where another protocol was offered."""
        if self.parser.should_upgrade() and self._lengths:
            return
        self._in_body = False
        self._size = self._unparsed = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Give back what was held for the request."""
        if not self.pipeline:
            self._unanswered = 0
            self._hold(self._size + self._unparsed)
            if self._ended:
                self.transport.close()
        super().on_response_complete()

    def expire(self, now: float) -> None:
        """End the connection if its time is over."""
        if now < self._deadline or self._ended or self._is_answering():
            return
        if self._begun:
            self._end(_RefusedError(HTTPStatus.REQUEST_TIMEOUT, "the request's head came too late"))
        else:
            self._ended = True
            self.transport.close()

    def _begin_wait(self) -> None:
        if not self._timed:
            self._timed = True
            wait = _SPARE_WAIT if self._spare else self.gate.limits.head_wait
            self._deadline = min(self._deadline, self.loop.time() + wait)

    def _grow(self, size: int) -> None:
        self._size += size
        self._unparsed = 0
        self._check_size()

    def _check_size(self) -> None:
        if self._size + self._unparsed > self.gate.limits.head_bytes:
            raise _RefusedError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head is too large"
            )

    def _hold(self, size: int) -> None:
        self.gate.held += size - self._held
        self._held = size

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    async def _turn_away(
        self, _: object, __: object, send: Callable[[Any], Awaitable[None]]
    ) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE
        self.gate.refused(status, _TOO_MANY)
        fields, body = _answer(status, _TOO_MANY)
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    def _end(self, refused: _RefusedError) -> None:
        """Answer with an error and close, after the answers that earlier requests still get."""
        self._ended = True
        self.gate.refused(refused.status, refused.why)
        if self.transport.is_closing():
            return
        answering = self._is_answering()
        if answering and self._in_body:
            # The request that was read last is the faulty one: its body will not be complete.
            cast("dict[str, Any]", self.cycle.scope)[REFUSED] = True
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.pipeline:
                self.pipeline.popleft()
            elif self.cycle.response_started:
                self.transport.close()
                return
            else:
                answering = False
        elif answering:
            self.cycle.keep_alive = False
        if answering:
            self.flow.pause_reading()
            return
        fields, body = _answer(refused.status, refused.why)
        fields.append((b"connection", b"close"))
        line = f"HTTP/1.1 {refused.status.value} {refused.status.phrase}\r\n".encode()
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        self.transport.write(line + head + b"\r\n" + body)
        self.transport.close()


def _answer(status: HTTPStatus, why: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The fields and the body of an error."""
    code = "BAD_REQUEST" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "TEMPORARILY_UNAVAILABLE"
    body = json.dumps({"error_code": code, "message": why}).encode()
    fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        fields.append((b"retry-after", b"1"))
    return fields, body


def _fault(
    version: str, fields: list[tuple[bytes, bytes]], lengths: list[tuple[bytes, bytes]]
) -> str | None:
    """Why another server might see another request; None where it can't.

    RFC 9112: sections 3.2 (host), 6.1 and 6.3 (lengths).
    """
    if version not in ("1.0", "1.1"):
        return "the version of HTTP is neither 1.0 nor 1.1"
    if len(lengths) > 1:
        return "the request says its length more than once"
    for name, value in lengths:
        if name == b"transfer-encoding" and (value.lower() != b"chunked" or version == "1.0"):
            return "the request's transfer-encoding is not supported"
    hosts = sum(name == b"host" for name, _ in fields)
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return "the request must name one host"
    return None


class Report:
    """Refusals: counted, and told by a line a second at most.

    Args:
        count: called for each.
        write: called with each line.
    """

    def __init__(
        self, count: Callable[[HTTPStatus, str], None], write: Callable[[str], None]
    ) -> None:
        self._count = count
        self._write = write
        self._numbers: dict[str, int] = {}
        self._waiting = False

    def __call__(self, status: HTTPStatus, why: str) -> None:
        """Report one."""
        self._count(status, why)
        self._numbers[why] = self._numbers.get(why, 0) + 1
        if not self._waiting:
            self._tell()

    def _tell(self) -> None:
        self._waiting = bool(self._numbers)
        if self._numbers:
            told = ", ".join(f"{why} ({number})" for why, number in self._numbers.items())
            self._write(f"requests or connections were refused: {told}")
            self._numbers.clear()
            asyncio.get_running_loop().call_later(1, self._tell)
