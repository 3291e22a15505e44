"""HTTP/1.1 of the tracking server: uvicorn's own protocol on h11, with limits.

Uvicorn's default parser (httptools) leaves the body behind an `Upgrade` unread and takes it for the
next request (Kludex/uvicorn#2722); neither of its parsers limits the time of a head, the number of
connections, or the lines that malformed requests leave in the log. Uvicorn loads this class itself
(`--http mlflow_entrypoint.front:Protocol`), in every worker.
"""

from __future__ import annotations

import re
import resource
import socket
import sys
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11
from h11 import _readers
from uvicorn.protocols.http.h11_impl import H11Protocol

from mlflow_entrypoint import admission, database_limits, watchdog
from mlflow_entrypoint.rare_logs import limit_rate

if TYPE_CHECKING:
    import asyncio

    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from mlflow_entrypoint.admission import App

    Event = type[h11.NEED_DATA | h11.PAUSED] | h11.Event

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 10
BODY_SECONDS = 60
"""Time limit without a byte of a body that the server is ready to read."""
CONNECTIONS = 16_384
"""Connections of a worker. Beyond them, the one that waits longest without a request is closed."""
RESERVED_FILES = 256
"""Open files for what is no connection of a client."""
TICK = 1
"""Seconds between two looks at what is overdue."""

_FOLD = re.compile(rb"\n[ \t]")
_HEAD_END = re.compile(rb"\n\r?\n")
_LENGTHS = re.compile(rb"\ncontent-length:[ \t]*([^\r]*?)[ \t]*\r", re.IGNORECASE)
_NUMBER = re.compile(rb"[0-9]{1,18}")
# H11 takes any character in a chunk's extension, and has no setting for it: others may see the end
# of a line in a CR (RFC 9112, 2.2 and 7.1).
_readers.chunk_header_re = re.compile(
    rb"(?P<chunk_size>[0-9A-Fa-f]{1,16})[ \t]*(?P<chunk_ext>;[\t\x20-\x7e\x80-\xff]*)?\r\n"
)
_UNANSWERED = (h11.IDLE, h11.SEND_RESPONSE)


class _Connection(h11.Connection):
    """H11's connection, which takes no request whose end two readers could see differently."""

    refusal = HTTPStatus.BAD_REQUEST
    """The answer to what it has refused."""

    def next_event(self) -> Event:
        """Give the next event, as h11 does.

        Raises:
            h11.RemoteProtocolError: also for what h11 itself is lenient about.
        """
        try:
            return self._next_event()
        except h11.RemoteProtocolError as error:
            self.refusal = HTTPStatus(error.error_status_hint)
            raise

    def _next_event(self) -> Event:
        if self.their_state is not h11.IDLE:
            return super().next_event()
        length = _check_head(bytes(self.trailing_data[0]))
        event = super().next_event()
        if isinstance(event, h11.Request):
            _check_framing(event, length)
        return event


def _refuse(reason: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> h11.RemoteProtocolError:
    return h11.RemoteProtocolError(reason, error_status_hint=status)


def _check_head(received: bytes) -> bytes | None:
    """Refuse a head that is too large or ambiguous, and give back its raw Content-Length."""
    end = _HEAD_END.search(received)
    head = received[: end.end()] if end else received
    if len(head) > HEAD_BYTES:
        raise _refuse("the head is too large", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    if not end:
        return None
    if not head.count(b"\n") == head.count(b"\r") == head.count(b"\r\n"):
        raise _refuse("a line doesn't end with CRLF")
    if _FOLD.search(head):
        raise _refuse("a field goes on in the next line")
    lengths = _LENGTHS.findall(head)
    if len(lengths) > 1 or (lengths and not _NUMBER.fullmatch(lengths[0])):
        raise _refuse("the Content-Length is no single number")
    return bytes(lengths[0]) if lengths else None


def _check_framing(request: h11.Request, length: bytes | None) -> None:
    if request.http_version not in (b"1.0", b"1.1"):
        raise _refuse("no HTTP/1", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    encoded = any(name == b"transfer-encoding" for name, _ in request.headers)
    if encoded and (length is not None or request.http_version == b"1.0"):
        raise _refuse("Transfer-Encoding beside Content-Length, or in HTTP/1.0")


class _Worker:
    """State that the connections of one worker share."""

    def __init__(self, app: App, loop: asyncio.AbstractEventLoop) -> None:
        self.app = admission.Admission(app, admission.limits())
        self.waiting: dict[Protocol, None] = {}
        """Connections without a request, the one that has waited longest first."""
        self.busy: dict[Protocol, None] = {}
        self._loop = loop
        self._connections = min(CONNECTIONS, _raise_open_files() - RESERVED_FILES)
        limit_rate("uvicorn.error")
        watchdog.start(loop)
        self._tick()

    def has_room(self) -> bool:
        """Tell if one more connection has room, for which one that only waits may have to go."""
        if len(self.waiting) + len(self.busy) < self._connections:
            return True
        if not self.waiting:
            return False
        next(iter(self.waiting)).end()
        return True

    def _tick(self) -> None:
        now = time.monotonic()
        for connection in [*self.waiting, *self.busy]:
            connection.end_overdue(now)
        self._loop.call_later(TICK, self._tick)


_workers: dict[ServerState, _Worker] = {}
"""Worker of this process, where it is one."""


class Protocol(H11Protocol):
    """Connection of a client."""

    conn: _Connection

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = _Connection(h11.SERVER, HEAD_BYTES)
        if server_state not in _workers:
            _workers[server_state] = _Worker(self.app, self.loop)
        self._worker = _workers[server_state]
        self.app = self._worker.app
        self._since = time.monotonic()
        """Start of the wait for a request, for the rest of its head, or for more of its body."""
        self._in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, unless there are too many."""
        super().connection_made(transport)
        _end_dead_peers(transport.get_extra_info("socket"))
        if self._worker.has_room():
            self._worker.waiting[self] = None
        else:
            self.transport.write(admission.BUSY_ANSWER)
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        if self.transport.is_closing():
            return
        if not self._in_head:
            self._since = time.monotonic()
            self._in_head = self in self._worker.waiting
        super().data_received(data)

    def handle_events(self) -> None:
        """Pass on what is complete."""
        super().handle_events()
        self._place()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._place()

    def _place(self) -> None:
        """See whether the connection waits for a request now, or has one."""
        if self.transport.is_closing():
            return
        waits = self.conn.their_state is h11.IDLE
        before, after = self._worker.busy, self._worker.waiting
        if not waits:
            before, after = after, before
        if self in before:
            del before[self]
            after[self] = None
            self._since = time.monotonic()
            self._in_head = waits and bool(self.conn.trailing_data[0])

    def send_400_response(self, msg: str) -> None:
        """Refuse what can't be read, unless an answer is on its way already."""
        if self.conn.our_state in _UNANSWERED:
            status = self.conn.refusal
            self.transport.write(
                f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
                f"content-length: {len(msg)}\r\nconnection: close\r\n\r\n{msg}".encode()
            )
        self.end()

    def end(self) -> None:
        """Close the connection, after what is written already."""
        self._forget()
        self.transport.close()

    def _forget(self) -> None:
        self._worker.waiting.pop(self, None)
        self._worker.busy.pop(self, None)

    def end_overdue(self, now: float) -> None:
        """Close the connection if its client has kept it waiting for too long."""
        waited = now - self._since
        if self in self._worker.waiting:
            late = waited > (HEAD_SECONDS if self._in_head else self.timeout_keep_alive)
        else:
            reads = self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused
            late = reads and waited > BODY_SECONDS
        if late:
            self.end()


def _raise_open_files() -> int:
    """Raise the soft limit of open files to the hard one, and give it back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def _end_dead_peers(connection: socket.socket | None) -> None:
    """Have the kernel end connections whose client takes nothing of what is sent to it."""
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, BODY_SECONDS * 1000)


# In every worker, before it connects: uvicorn loads this module first.
database_limits.install()
