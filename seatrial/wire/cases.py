"""One way to frame requests, and what a server may make of it.

Every case is followed by a plain request, the last one on its connection, and most hide another
request in a body. A server that disagrees with the standard about where a body ends answers the
hidden request, or loses the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seatrial.wire.exchange import Address


class Expected(StrEnum):
    """What RFC 9112 leaves to a server."""

    ANSWERED = "answered"
    """Correct: each request gets its answer."""
    LAST = "last"
    """Correct, and the last one on its connection: it gets its answer, and what follows none."""
    SAFE = "safe"
    """Lenient readers and strict ones agree where it ends: it may be answered or refused."""
    CLOSED = "closed"
    """It may be answered, and the connection has to be closed: section 6.1."""
    REFUSED = "refused"
    """No reading of it is safe: an error or no answer at all, and the end of the connection."""


@dataclass(frozen=True)
class Case:
    """Bytes to send, and what they must be answered with."""

    family: str
    name: str
    expected: Expected
    parts: tuple[bytes, ...]
    """What is sent, without the plain request that follows; each a segment of its own."""
    statuses: tuple[int | None, ...] = (None,)
    """Of the answers before the plain request's, where it is `ANSWERED` or `LAST`; None for any."""
    methods: tuple[str, ...] = ()
    """Of the requests, where HEAD is among them."""
    known: bool = True
    """The server has what the request asks for: 404 can only be the hidden one's answer."""

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


@dataclass(frozen=True)
class Target:
    """A server, and the requests that it is known to answer."""

    address: Address
    health: str
    """A path that GET is answered on with 200."""
    action: str
    """A path that takes a POST."""
    kind: str
    """The content type of that POST."""
    payload: bytes
    """A body that it answers with 200."""
    in_chunks: int | None = HTTPStatus.OK
    """The status of the same body in the chunked coding; None for any."""
    absent: str = "/seatrial-hidden"
    """A path that is answered with 404."""

    @property
    def host(self) -> str:
        """The field that every correct request has."""
        return f"Host: {self.address.name}"

    @property
    def hidden(self) -> bytes:
        """The request that must never be answered."""
        return request(f"GET {self.absent} HTTP/1.1", self.host)

    @property
    def last(self) -> bytes:
        """The plain request that follows every case."""
        return request(f"GET {self.health} HTTP/1.1", self.host, "Connection: close")

    def post(self, *fields: str | bytes, body: bytes = b"", version: str = "HTTP/1.1") -> bytes:
        """A POST whose framing stands in `fields`."""
        line = f"POST {self.action} {version}"
        return request(line, self.host, f"Content-Type: {self.kind}", *fields) + body


def request(*lines: str | bytes) -> bytes:
    """A request's head; text stands for the bytes of Latin-1."""
    encoded = [line.encode("latin-1") if isinstance(line, str) else line for line in lines]
    return b"\r\n".join([*encoded, b"", b""])


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    """A body in the chunked transfer coding."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"%s0\r\n%s\r\n" % (chunks, trailers)


def length(body: bytes) -> str:
    """The field that says how long a body is."""
    return f"Content-Length: {len(body)}"
