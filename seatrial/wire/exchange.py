"""Send bytes to a server, and read its answers as they came."""

from __future__ import annotations

import io
import socket
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONNECT_LIMIT = 10.0
"""Seconds, natively."""
PART_PAUSE = 0.02
"""Seconds between two parts: long enough for each to be a segment of its own."""
_SHOWN = 160


class HTTPAddress(NamedTuple):
    """Address of a server."""

    host: str
    port: int

    @property
    def name(self) -> str:
        """The value of a Host header."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class WireAnswer:
    """Answer of a server."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """Header fields by their names in small letters."""
    body: bytes = b""

    @property
    def closes(self) -> bool:
        """Tell whether it says that no other one follows."""
        return "close" in self.headers.get("connection", "").lower()


@dataclass(frozen=True)
class WireExchange:
    """Answers on a connection."""

    answers: tuple[WireAnswer, ...]
    """Final answers, without interim ones such as 100."""
    closed: bool
    """The server has closed the connection, or reset it."""
    rest: bytes = b""
    """Bytes after the answers that are no answer."""

    def __str__(self) -> str:
        listed = ", ".join(f"{answer.status} {shown(answer.body, 60)}" for answer in self.answers)
        rest = f", then {shown(self.rest)}" if self.rest else ""
        return f"{listed or 'no answer'}{rest}; connection {'closed' if self.closed else 'open'}"


def shown(sent: bytes, length: int = _SHOWN) -> str:
    """Bytes for a message, shortened."""
    if len(sent) <= length:
        return repr(sent)
    return f"{sent[: length // 2]!r}...{sent[-length // 2 :]!r} ({len(sent)} bytes)"


def connect(address: HTTPAddress, scale: float = 1) -> socket.socket:
    """Open a connection that does not hold small segments back."""
    connection = socket.create_connection(address, timeout=CONNECT_LIMIT * scale)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def converse(
    address: HTTPAddress,
    parts: Sequence[bytes],
    *,
    methods: Sequence[str] = (),
    quiet: float,
    scale: float = 1,
    pause: float = PART_PAUSE,
) -> WireExchange:
    """Send bytes on a connection of their own, and read until it is closed or nothing comes.

    Args:
        address: of the server.
        parts: what is sent, each in a segment of its own.
        methods: of the requests, where they are not all GET or POST: HEAD's answers have no body.
        quiet: seconds without a byte after which nothing more is expected.
        scale: what time limits are multiplied with.
        pause: seconds between two parts.
    """
    with connect(address, scale) as connection:
        try:
            for number, part in enumerate(parts):
                if number:
                    time.sleep(pause)
                connection.sendall(part)
        except OSError:
            pass  # a server that refuses does not read to the end
        received, closed = receive(connection, quiet * scale)
    answers, rest = read_answers(received, methods)
    return WireExchange(answers, closed, rest)


def receive(connection: socket.socket, quiet: float) -> tuple[bytes, bool]:
    """Read until the connection is closed, or nothing came for some seconds.

    Returns:
        the bytes, and whether the server has closed or reset the connection.
    """
    connection.settimeout(quiet)
    pieces: list[bytes] = []
    while True:
        try:
            piece = connection.recv(1 << 16)
        except TimeoutError:
            return b"".join(pieces), False
        except OSError:
            return b"".join(pieces), True
        if not piece:
            return b"".join(pieces), True
        pieces.append(piece)


def read_answers(
    received: bytes, methods: Sequence[str] = ()
) -> tuple[tuple[WireAnswer, ...], bytes]:
    """Take answers from the beginning of what was received.

    Returns:
        whole answers, interim ones left out, and what follows them.
    """
    stream = _Kept(received)
    found: list[WireAnswer] = []
    while (begin := stream.tell()) < len(received):
        method = methods[len(found)] if len(found) < len(methods) else None
        answer = HTTPResponse(_Socket(stream), method=method)  # type: ignore[arg-type]
        try:
            answer.begin()
            body = answer.read()
        except (HTTPException, ValueError):
            return tuple(found), received[begin:]
        if answer.status >= HTTPStatus.OK or answer.status == HTTPStatus.SWITCHING_PROTOCOLS:
            headers = {name.lower(): value for name, value in answer.getheaders()}
            found.append(WireAnswer(answer.status, headers, body))
    return tuple(found), b""


class _Kept(io.BytesIO):
    """A stream that an answer does not close with itself: others may follow."""

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class _Socket:
    """Stands for the socket that `HTTPResponse` reads from."""

    stream: io.BytesIO

    def makefile(self, *_: object) -> io.BytesIO:
        return self.stream
