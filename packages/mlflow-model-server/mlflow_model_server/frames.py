"""Protocol between the front and a worker: one request, then its answer, on each socket.

A frame is the lengths of its two parts, a head in JSON, and a body as it is.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import socket

LENGTHS = struct.Struct("!IQ")
_FIRST_READ = 65536
"""Bytes: most requests fit. There is never more than one on its way."""


class Request(NamedTuple):
    """A request, as the front has read it."""

    identity: str
    method: str
    path: str
    raw_path: str
    query: str
    headers: list[tuple[str, str]]


class Answer(NamedTuple):
    """A worker's answer; its first one, with status 0, says that the model is loaded."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def encode(head: tuple[Any, ...], body: bytes) -> list[bytes]:
    """The pieces of a frame."""
    encoded = json.dumps(head, separators=(",", ":")).encode()
    return [LENGTHS.pack(len(encoded), len(body)) + encoded, body]


def decode_answer(head: bytes, body: bytes) -> Answer:
    """The answer that a frame holds."""
    status, headers = json.loads(head)
    return Answer(status, [(name, value) for name, value in headers], body)


def receive(stream: socket.socket) -> tuple[Request, bytes] | None:
    """Wait for a request and its body; None when there will be no more."""
    data = bytearray(stream.recv(_FIRST_READ))
    if not _fill(stream, data, LENGTHS.size):
        return None
    head_length, body_length = LENGTHS.unpack_from(data)
    start = LENGTHS.size + head_length
    if not _fill(stream, data, start + body_length):
        return None
    with memoryview(data) as view:
        return Request(*json.loads(bytes(view[LENGTHS.size : start]))), bytes(view[start:])


def send(stream: socket.socket, answer: Answer) -> None:
    """Send an answer."""
    head, body = encode((answer.status, answer.headers), answer.body)
    if len(body) < 65536:
        stream.sendall(head + body)
    else:
        stream.sendall(head)
        stream.sendall(body)


def _fill(stream: socket.socket, data: bytearray, length: int) -> bool:
    """Receive until there is that much; whether there is."""
    missing = length - len(data)
    if missing <= 0:
        return True
    began = len(data)
    data.extend(bytes(missing))
    with memoryview(data) as view:
        while began < length:
            received = stream.recv_into(view[began:])
            if received == 0:
                return False
            began += received
    return True
