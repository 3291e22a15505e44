"""Cases of framing requests, and the answers that RFC 9112 allows.

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
    from seatrial.wire.exchange import HTTPAddress


class Expected(StrEnum):
    """Answers that RFC 9112 allows."""

    ANSWERED = "answered"
    """Correct: each request gets its answer."""
    LAST = "last"
    """Correct, and the last one on its connection: it gets its answer, and what follows none."""
    SAFE = "safe"
    """Lenient readers and strict ones agree where it ends: it may be answered or refused."""
    CLOSED = "closed"
    """Answer or refusal, and the end of the connection: section 6.1."""
    REFUSED = "refused"
    """Unsafe in any reading: an error or no answer, and the end of the connection."""


@dataclass(frozen=True)
class WireCase:
    """Bytes to send, and the answers that they must get."""

    family: str
    name: str
    expected: Expected
    parts: tuple[bytes, ...]
    """Bytes of each segment, without the plain request that follows."""
    statuses: tuple[int | None, ...] = (None,)
    """Statuses before the plain request's answer, for `ANSWERED` or `LAST`; None for any."""
    methods: tuple[str, ...] = ()
    """Methods of the requests, where HEAD is among them."""
    known: bool = True
    """The server has what the request asks for: 404 can only be the hidden one's answer."""

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


@dataclass(frozen=True)
class WireTarget:
    """A server, and the requests that it is known to answer."""

    address: HTTPAddress
    health: str
    """A path that GET is answered on with 200."""
    action: str
    """A path that takes a POST."""
    content_type: str
    """Content type of that POST."""
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
        return request(line, self.host, f"Content-Type: {self.content_type}", *fields) + body


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
