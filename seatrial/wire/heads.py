"""Heads that are large, endless, slow or malformed."""

from __future__ import annotations

import itertools
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seatrial.wire import framing
from seatrial.wire.cases import Expected, request
from seatrial.wire.exchange import connect, receive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seatrial.wire.cases import WireTarget
    from seatrial.wire.exchange import HTTPAddress

FIELDS = 50
"""Fields of a large head: many servers take a hundred at most."""
MOST = 32 << 20
"""Bytes: more than the buffers on the way to a server hold."""
_PIECE = 1 << 16
_TRICKLE = 0.4
"""Seconds between two bytes: no limit that is set for one read ever ends."""
_STALLED = 20.0
"""Seconds in which a server that takes nothing more has to end the connection."""
_ANSWER_LIMIT = 5.0
"""Seconds, natively."""


def large(target: WireTarget, size: int) -> Iterator[tuple[str, bytes]]:
    """Correct requests with a head of a size, by what fills it."""
    line = f"GET {target.health} HTTP/1.1"
    width = size // FIELDS - len("X-Field-00: \r\n")
    fields = (f"X-Field-{number:02}: {'a' * width}" for number in range(FIELDS))
    yield "many fields", request(line, target.host, *fields, "Connection: close")
    yield "one field", request(line, target.host, f"X-Field: {'a' * size}", "Connection: close")


def oversized(target: WireTarget, size: int) -> Iterator[tuple[str, bytes]]:
    """Heads that are larger than a size in each way there is."""
    line = f"GET {target.health} HTTP/1.1"
    for name, sent in large(target, size):
        yield f"{name}, {size} bytes", sent
    short = (f"X-{number}: a" for number in range(size // 8))
    yield f"short fields, {size} bytes", request(line, target.host, *short)
    yield f"name of a field, {size} bytes", request(line, target.host, f"X{'a' * size}: 1")
    path = f"GET {target.health}?{'a' * size} HTTP/1.1"
    yield f"query, {size} bytes", request(path, target.host)
    yield f"path, {size} bytes", request(f"GET /{'a/' * (size // 2)} HTTP/1.1", target.host)
    yield f"method, {size} bytes", request(f"{'G' * size} {target.health} HTTP/1.1", target.host)
    yield f"version, {size} bytes", request(f"{line}{'1' * size}", target.host)
    folded = "X-Folded: a" + "\r\n a" * (size // 4)
    yield f"folded field, {size} bytes", request(line, target.host, folded)


@dataclass(frozen=True)
class Endless:
    """Something that has no end."""

    name: str
    begin: bytes
    repeated: bytes


def endless(target: WireTarget) -> Iterator[Endless]:
    """Parts of a request that nothing but the server's own limit ends."""
    line = f"GET {target.health} HTTP/1.1"
    head = request(line, target.host)[:-2]
    body = target.post(framing.CHUNKED)
    yield Endless("method", b"G", b"G")
    yield Endless("target", b"GET /", b"a")
    yield Endless("version", line.encode(), b"1")
    yield Endless("name of a field", head, b"a")
    yield Endless("value of a field", head + b"X-Field: ", b"a")
    yield Endless("fields", head, b"X-Field: a\r\n")
    yield Endless("blanks before a value", head + b"X-Field:", b" ")
    yield Endless("folded field", head + b"X-Field: a\r\n", b" a\r\n")
    yield Endless("empty lines before the request", b"", b"\r\n")
    yield Endless("chunk size", body, b"0")
    yield Endless("chunk extension", body + b"1;", b"a")
    yield Endless("trailers", body + b"0\r\n", b"X-Field: a\r\n")
    yield Endless("value of a trailer", body + b"0\r\nX-Field: ", b"a")


def taken(address: HTTPAddress, sent: Endless) -> int | None:
    """Send something endless until the server has had enough.

    Returns:
        how many bytes it has taken without an answer or an end; None where it has had enough.
    """
    piece = sent.repeated * (_PIECE // len(sent.repeated))
    count = 0
    with connect(address) as connection:
        connection.settimeout(_STALLED)
        try:
            connection.sendall(sent.begin)
            while count < MOST:
                if select.select([connection], [], [], 0)[0]:
                    return None  # an answer or the end: either is there in time
                connection.sendall(piece)
                count += len(piece)
        except TimeoutError:
            # It reads nothing more, which costs it nothing more, but a connection.
            return None if select.select([connection], [], [], _STALLED)[0] else count
        except OSError:
            return None
        return None if select.select([connection], [], [], _STALLED)[0] else count


@dataclass(frozen=True)
class Slow:
    """The beginning of a head, and what of it trickles in afterwards."""

    name: str
    begin: bytes
    trickle: bytes = b""
    answers: int = 0
    """Whole requests that it begins with."""


def slow(target: WireTarget) -> Iterator[Slow]:
    """Heads that don't come to their end."""
    line = f"GET {target.health} HTTP/1.1"
    whole = request(line, target.host)
    post = target.post("Content-Length: 2", body=b"{}")
    head = whole[:-2]
    yield Slow("one byte", b"G")
    yield Slow("half a line", line.encode()[:9])
    yield Slow("a line", line.encode() + b"\r\n")
    yield Slow("all but the last line end", head)
    yield Slow("all but the last byte", whole[:-1])
    yield Slow("field without an end", head + b"X-Field: a")
    yield Slow("empty line before the request", b"\r\n")
    yield Slow("trickling line", b"GET /", b"a")
    yield Slow("trickling name", head, b"a")
    yield Slow("trickling value", head + b"X-Field: ", b"a")
    yield Slow("trickling fields", head, b"X-A: b\r\n")
    yield Slow("trickling empty lines", b"", b"\r\n")
    yield Slow("half of a second head", whole + head, answers=1)
    yield Slow("one byte of a second head", whole + b"G", answers=1)
    yield Slow("trickling second head", whole + head, b"a", answers=1)
    yield Slow("half of a head after a body", post + head, answers=1)


def lasts(address: HTTPAddress, sent: Slow, limit: float) -> float | None:
    """Measure how long a server keeps a connection with a slow head.

    Returns:
        seconds until it was closed; None where it is open after `limit` seconds.
    """
    began = time.monotonic()
    with connect(address) as connection:
        trickle = itertools.cycle(sent.trickle[i : i + 1] for i in range(len(sent.trickle)))
        try:
            connection.sendall(sent.begin)
            while (lasted := time.monotonic() - began) < limit:
                wait = _TRICKLE if sent.trickle else limit - lasted
                if select.select([connection], [], [], wait)[0]:
                    if not connection.recv(_PIECE):
                        return time.monotonic() - began
                elif sent.trickle:
                    connection.sendall(next(trickle))
        except OSError:
            return time.monotonic() - began
    return None


def malformed(target: WireTarget, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield so many malformed requests, of all kinds in turn."""
    tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64))
    http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    others = {
        "TLS": tls,
        "HTTP/2": http2,
        "NUL": bytes(100),
        "text": b"hello\r\n\r\n",
        "terminal": b"\x1b[31mred\x1b[0m\r\n\r\n",
        "forged line": b"GET / HTTP/1.1\nINFO forged\n\n\r\n",
        "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    }
    refused = {
        str(case): b"".join(case.parts)
        for case in framing.cases(target)
        if case.expected is Expected.REFUSED
    }
    endless = itertools.cycle({**others, **refused}.items())
    return itertools.islice(endless, count)


def throw(address: HTTPAddress, sent: bytes, scale: float = 1) -> None:
    """Send bytes, and wait for what comes, or for the end."""
    with connect(address, scale) as connection:
        try:
            connection.sendall(sent)
        except OSError:
            return  # refused already
        receive(connection, _ANSWER_LIMIT * scale)
