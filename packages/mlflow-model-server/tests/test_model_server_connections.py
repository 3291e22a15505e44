"""The model server's connections: its parser and its event loop, against raw sockets.

Each request is followed by another one on the same connection, the canary. A byte of a body that
is read as a request, or a byte of the canary that is read as a body, shows in what the app has
seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import socket
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import httptools
import psutil
import pytest
import uvicorn
import uvloop
from mlflow_entrypoint.errors import say
from mlflow_model_server import connections, settings
from mlflow_model_server.connections import ClientLimits, Gate, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMITS = ClientLimits(connections=10_000, head_bytes=65536, head_wait=10, idle_wait=75)
FIRST = ("/ping",)
CANARY = b"GET /canary HTTP/1.1\r\nHost: a\r\n\r\n"
INNER = b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /outer HTTP/1.1\r\nHost: a\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"


class Answers(NamedTuple):
    """What came back on a connection, and whether the server has closed it."""

    data: bytes
    closed: bool

    @property
    def statuses(self) -> list[int]:
        """Of all answers."""
        lines = self.data.split(b"HTTP/1.1 ")[1:]
        return [int(line[:3]) for line in lines]


class Server:
    """The server's connections with an app that answers with the body, in a thread."""

    def __init__(self, limits: ClientLimits = LIMITS) -> None:
        self.seen: list[tuple[str, str, bytes]] = []
        self.refused: list[tuple[int, str]] = []
        self.gate = Gate(limits, FIRST, self._refuse)
        self.loop: Any = None
        self.parser: Any = None
        self._server = uvicorn.Server(self.gate.configuration(self._app))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.address = self._listener.getsockname()
        self._thread = threading.Thread(target=self._run)
        self._thresholds = gc.get_threshold()

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.refused.append((status, why))

    def _run(self) -> None:
        self._server.capture_signals = contextlib.nullcontext  # type: ignore[assignment,method-assign]
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        closing = asyncio.create_task(self.gate.close_overdue(self._server.server_state))
        await self._server.serve(sockets=[self._listener])
        closing.cancel()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        self.parser = cast("Any", next(iter(self._server.server_state.connections))).parser
        self.seen.append((scope["method"], scope["path"], body))
        if scope["path"] == "/slow":
            await asyncio.sleep(0.3)
        fields = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self._listener.close()
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def connect(self) -> socket.socket:
        """Open a connection."""
        connection = socket.create_connection(self.address, timeout=20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def ask(self, *pieces: bytes, answers: int = 0) -> Answers:
        """Send pieces, each in a packet of its own; read until so many answers, or to the end."""
        self.seen.clear()
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError):
                for number, piece in enumerate(pieces):
                    if number:
                        time.sleep(0.005)
                    connection.sendall(piece)
            return read(connection, answers)


def read(connection: socket.socket, answers: int) -> Answers:
    """Read so many answers; one that says that it is the last ends with the connection."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while b"connection: close" in data or data.count(b"HTTP/1.1 ") < answers or not answers:
            piece = connection.recv(65536)
            if not piece:
                return Answers(data, closed=True)
            data += piece
        return Answers(data, closed=False)
    return Answers(data, closed=True)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as one:
        yield one


def test_the_parser_and_the_loop_are_those_that_ship(server: Server) -> None:
    assert server.ask(CANARY, answers=1).statuses == [200]
    assert isinstance(server.loop, uvloop.Loop)
    assert isinstance(server.parser, httptools.HttpRequestParser)


def chunked(*pieces: bytes) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def cut(data: bytes, size: int) -> list[bytes]:
    """Pieces of a size; one for 0."""
    size = size or len(data)
    return [data[start : start + size] for start in range(0, len(data), size)]


FRAMES = {
    "length": (b"Content-Length: %d\r\n\r\n" % len(INNER), INNER),
    "chunks": (b"Transfer-Encoding: chunked\r\n\r\n", chunked(INNER[:5], INNER[5:])),
    "trailers": (
        b"Transfer-Encoding: chunked\r\n\r\n",
        chunked(INNER)[:-2] + b"Content-Type: b\r\nHost: b\r\n\r\n",
    ),
    "extensions": (
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"%x;a=b\r\n%s\r\n0;c\r\n\r\n" % (len(INNER), INNER),
    ),
    "zeros": (
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"000%x\r\n%s\r\n0\r\n\r\n" % (len(INNER), INNER),
    ),
    "long": (b"Content-Length: %d\r\n\r\n" % (3000 * len(INNER)), 3000 * INNER),
}
OFFERS = {
    "none": b"",
    "h2c": UPGRADE + b"Upgrade: h2c\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
    "several": UPGRADE + b"Upgrade: foo/2, h2c\r\n",
    "TLS": b"Upgrade: TLS/1.0\r\nConnection: upgrade\r\n",
    "unannounced": b"Upgrade: h2c\r\n",
    "expect": b"Expect: 100-continue\r\n" + UPGRADE + b"Upgrade: h2c\r\n",
}
METHODS = ("POST", "PUT", "GET", "OPTIONS", "HEAD", "DELETE")


@pytest.mark.parametrize("cutting", ["none", "after the head", "7 bytes"])
@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("offer", OFFERS)
def test_a_body_is_a_body(server: Server, offer: str, frame: str, cutting: str) -> None:
    head, body = POST + OFFERS[offer] + FRAMES[frame][0], FRAMES[frame][1]
    whole = head + body + CANARY
    pieces = {"none": [whole], "after the head": [head, body, CANARY]}.get(cutting)
    if pieces is None:
        pieces = cut(whole, 7 if len(whole) < 1000 else 7777)
    answers = 3 if offer == "expect" else 2
    got = server.ask(*pieces, answers=answers)
    expected = INNER * 3000 if frame == "long" else INNER
    assert server.seen == [("POST", "/outer", expected), ("GET", "/canary", b"")]
    assert [status for status in got.statuses if status != 100] == [200, 200]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("offer", OFFERS)
def test_any_method_may_have_a_body(server: Server, offer: str, method: str) -> None:
    head = method.encode() + b" /outer HTTP/1.1\r\nHost: a\r\n" + OFFERS[offer]
    for fields, body in (FRAMES["length"], FRAMES["chunks"], (b"\r\n", b"")):
        server.ask(head + fields, body + CANARY, answers=3 if offer == "expect" else 2)
        assert server.seen == [
            (method, "/outer", INNER if body else b""),
            ("GET", "/canary", b""),
        ]


def test_upgrades_one_after_the_other(server: Server) -> None:
    one = POST + OFFERS["h2c"] + FRAMES["chunks"][0] + FRAMES["chunks"][1]
    got = server.ask(*cut(one * 20, 1000), answers=20)
    assert server.seen == [("POST", "/outer", INNER)] * 20
    assert got.statuses == [200] * 20


LENGTH = b"Content-Length: %d\r\n" % len(INNER)
BODY = b"\r\n" + INNER
CHUNKS = b"\r\n" + chunked(INNER)
AMBIGUOUS = {
    # two lengths
    "CL, TE": LENGTH + b"Transfer-Encoding: chunked\r\n" + CHUNKS,
    "TE, CL": b"Transfer-Encoding: chunked\r\n" + LENGTH + CHUNKS,
    "CL 0, TE": b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n" + CHUNKS,
    "TE, CL 0": b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n" + CHUNKS,
    "CL twice": 2 * LENGTH + BODY,
    "CLs differ": LENGTH + b"Content-Length: 0\r\n" + BODY,
    "CLs differ, 0 first": b"Content-Length: 0\r\n" + LENGTH + BODY,
    "CL list": b"Content-Length: %d, %d\r\n" % (len(INNER), len(INNER)) + BODY,
    "CL list differs": b"Content-Length: 0, %d\r\n" % len(INNER) + BODY,
    "TE twice": 2 * b"Transfer-Encoding: chunked\r\n" + CHUNKS,
    "TE twice, other": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n" + CHUNKS,
    "TE twice, other first": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"
    + CHUNKS,
    **{
        f"TE {value!r}": b"Transfer-Encoding: " + value + b"\r\n" + CHUNKS
        for value in (
            *(b"identity", b"xchunked", b"chunkedx", b"chunked, identity", b"identity, chunked"),
            *(b"gzip", b"gzip, chunked", b"chunked, chunked", b"chunked;a=b", b'"chunked"'),
            *(b"", b",", b"chunked,", b",chunked", b"\x0bchunked", b"chunked\x0b", b"\xffchunked"),
            *(
                b"ch\xc5\xbfunked",
                b"chunked\x00",
                b"\x00chunked",
                b"chun\r\n ked",
                b"x\r\n chunked",
            ),
        )
    },
    **{
        f"CL {value!r}": b"Content-Length: " + value + BODY
        for value in (
            *(b"+%d", b"-%d", b"0x1e", b"%d.0", b"1e1", b"%d 1", b"%d\x00", b"\x00%d", b"%da"),
            *(
                b"'%d'",
                b"%d,",
                b",%d",
                b"\xd9\xa3",
                b"%d\x0b",
                b"99999999999999999999999",
                b" ",
                b"",
            ),
            *(b"1_0", b"%d;a", b"%d\r\n 0", b"-0", b"18446744073709551616"),
        )
    },
    # names
    **{
        f"name {name!r}": name + b": chunked\r\n" + LENGTH + CHUNKS
        for name in (
            *(
                b"Transfer-Encoding ",
                b"Transfer-Encoding\t",
                b"Transfer Encoding",
                b" Transfer-Encoding",
            ),
            *(b"Transfer-Encoding\x00", b"\x00Transfer-Encoding", b"Transfer-Encoding\r", b""),
            *(b"Transfer-Encod\xc4\xb1ng", b"Transfer-Encoding\x0b", b"(Transfer-Encoding)"),
            *(b"Transfer-Encoding\x7f", b"X: a\nTransfer-Encoding", b"X: a\rTransfer-Encoding"),
            *(b"X:a\r\n\tb\r\nTransfer-Encoding", b"X: a\r\r\nTransfer-Encoding"),
        )
    },
    "no colon": b"Transfer-Encoding chunked\r\n" + LENGTH + BODY,
    "NUL in a value": b"X: a\x00b\r\n" + LENGTH + BODY,
    "CR in a value": b"X: a\rb\r\n" + LENGTH + BODY,
    "LF ends a field": b"X: a\n" + LENGTH + BODY,
    "LF ends the head": LENGTH + b"\n" + INNER,
    "CR ends a field": b"X: a\r" + LENGTH + BODY,
    "CR ends the head": LENGTH + b"\r" + INNER,
    "two hosts": b"Host: b\r\n" + LENGTH + BODY,
    "a folded field": b"X: a\r\n b\r\n" + LENGTH + BODY,
    "a folded first field": b" X: a\r\n" + LENGTH + BODY,
    # chunks
    **{
        f"chunk {size!r}": b"Transfer-Encoding: chunked\r\n\r\n" + size + INNER + b"\r\n0\r\n\r\n"
        for size in (
            *(b"0x1e\r\n", b"+1e\r\n", b"-1e\r\n", b"1e \x00\r\n", b"1e\n", b"1e\r", b" 1e\r\n"),
            *(b"1g\r\n", b"\r\n", b"1e\x0b\r\n", b"1_e\r\n", b"fffffffffffffffff\r\n"),
            *(
                b"1e;a\nb\r\n",
                b"1e;a\rb\r\n",
                b"1e;\x00\r\n",
                b"10000000000000001e\r\n",
                b"1e\t\r\n",
            ),
        )
    },
    "chunk ends with LF": b"Transfer-Encoding: chunked\r\n\r\n1f\r\n" + INNER + b"\n0\r\n\r\n",
    "chunk is longer": b"Transfer-Encoding: chunked\r\n\r\n3\r\n" + INNER + b"\r\n0\r\n\r\n",
    "chunk has no end": b"Transfer-Encoding: chunked\r\n\r\n1f\r\n" + INNER + b"0\r\n\r\n",
    "trailer is folded": b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: a\r\n b\r\n\r\n",
    "trailer has a space": b"Transfer-Encoding: chunked\r\n\r\n0\r\nX : a\r\n\r\n",
    "last chunk ends with LF": b"Transfer-Encoding: chunked\r\n\r\n0\n\n" + INNER,
}


@pytest.mark.parametrize("offer", ["none", "h2c"])
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_request_ends_the_connection(server: Server, name: str, offer: str) -> None:
    with_number = AMBIGUOUS[name].replace(b"%d", b"%d" % len(INNER))
    request = POST + OFFERS[offer] + with_number
    for pieces in ([request + CANARY], [*cut(request, 11), CANARY]):
        got = server.ask(*pieces)
        assert got.closed
        assert server.seen == []
        assert got.statuses in ([400], [])
        assert got.statuses or pieces[1:], "a client that has sent all may read why"


LINES = {
    **{
        f"line {line!r}": line
        for line in (
            *(b"GET /", b"GET / HTTP/0.9", b"GET / HTTP/2.0", b"GET / HTTP/1.2", b"GET / HTTP/11"),
            *(b"GET / HTTP/1.1 ", b"GET\t/ HTTP/1.1", b"GET / http/1.1", b"GET"),
            *(b"GET /\x00 HTTP/1.1", b"GET /\xff HTTP/1.1", b"GET / a HTTP/1.1", b"get / HTTP/1.1"),
            *(
                b"G\x00T / HTTP/1.1",
                b"NOTHING / HTTP/1.1",
                b" GET / HTTP/1.1",
                b"GET / HTTP/1.1\rX",
            ),
            *(b"PRI * HTTP/2.0", b"CONNECT a:80 HTTP/1.1", b"GET a HTTP/1.1", b"GET /\r/ HTTP/1.1"),
            *(
                b"GET / XTTP/1.1",
                b"GET / HTTP/1.10",
                b"GET / HTTP/1,1",
                b"/ HTTP/1.1",
                b"\x16\x03\x01",
            ),
        )
    }
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_that_is_no_request(server: Server, name: str) -> None:
    for end in (b"\r\nHost: a\r\n\r\n", b"\n\n"):
        got = server.ask(LINES[name] + end + CANARY)
        assert (got.closed, server.seen) == (True, [])
        assert got.statuses == [400]


def test_a_host_is_needed_in_1_1_only(server: Server) -> None:
    assert server.ask(b"GET / HTTP/1.1\r\n\r\n").statuses == [400]
    got = server.ask(b"GET / HTTP/1.0\r\n\r\n")
    assert (got.statuses, got.closed) == ([200], True)


@pytest.mark.parametrize("connection", [b"", b"Connection: keep-alive\r\n"])
def test_http_1_0(server: Server, connection: bytes) -> None:
    got = server.ask(b"POST / HTTP/1.0\r\n" + connection + LENGTH + BODY + CANARY)
    assert (server.seen, got.statuses, got.closed) == ([("POST", "/", INNER)], [200], True)
    got = server.ask(
        b"POST / HTTP/1.0\r\n" + connection + b"Transfer-Encoding: chunked\r\n" + CHUNKS
    )
    assert (server.seen, got.statuses, got.closed) == ([], [400], True)


def test_what_follows_the_last_request_is_not_read(server: Server) -> None:
    got = server.ask(POST + b"Connection: close\r\n" + LENGTH + BODY + CANARY)
    assert (server.seen, got.statuses, got.closed) == ([("POST", "/outer", INNER)], [200], True)


def test_absolute_targets_and_blank_lines(server: Server) -> None:
    got = server.ask(
        b"\r\n\r\nGET http://b/outer HTTP/1.1\r\nHost: a\r\n\r\n\r\n" + CANARY, answers=2
    )
    assert server.seen == [("GET", "/outer", b""), ("GET", "/canary", b"")]
    assert got.statuses == [200, 200]


@pytest.mark.parametrize(
    "fault", [b"\x00\x01", b"GET / HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\n" + CHUNKS]
)
def test_requests_before_a_faulty_one_get_their_answers(server: Server, fault: bytes) -> None:
    slow = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
    got = server.ask(slow + CANARY + fault + CANARY)
    assert server.seen == [("GET", "/slow", b""), ("GET", "/canary", b"")]
    assert (got.statuses, got.closed) == ([200, 200], True)


def test_requests_before_a_faulty_body_get_their_answers(server: Server) -> None:
    slow = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
    for first in (slow, slow + CANARY):
        got = server.ask(first + POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n" + CANARY)
        assert [path for _, path, _ in server.seen] == ["/slow", "/canary"][: first.count(b"GET")]
        assert (got.statuses, got.closed) == ([200] * first.count(b"GET"), True)


def test_a_connection_is_told_of_no_more_than_a_few_requests_at_once(server: Server) -> None:
    got = server.ask(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + 1000 * CANARY)
    assert got.closed
    assert got.statuses == [200] * len(server.seen)
    assert len(server.seen) < 50


def head_of(size: int, field: int) -> bytes:
    """A head of some bytes, in fields of some bytes."""
    start = b"GET /canary HTTP/1.1\r\nHost: a\r\n"
    fields, rest = divmod(size - len(start) - 2, field)
    lengths = [field] * fields + [rest] * (rest > 5)
    return start + b"".join(b"x: %s\r\n" % (b"a" * (one - 5)) for one in lengths) + b"\r\n"


@pytest.mark.parametrize("cutting", [0, 1000])
@pytest.mark.parametrize("field", [100, 1000, 30_000])
def test_heads_have_a_largest_size(server: Server, field: int, cutting: int) -> None:
    assert server.ask(*cut(head_of(60_500, field), cutting), answers=1).statuses == [200]
    for size in (67_000, 130_000):
        got = server.ask(*cut(head_of(size, field), cutting))
        assert (got.closed, server.seen) == (True, [])
        assert got.statuses in ([431], [])


def assert_connection_ends(connection: socket.socket, filling: bytes) -> None:
    """Assert that the server ends a connection before it has got 10 MiB of a head or a trailer."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 10 << 20:
            connection.sendall(filling * 1000)
            sent += 1000 * len(filling)
    assert sent < 10 << 20


@pytest.mark.parametrize(
    "begin", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nX: a\r\n", b"G"]
)
@pytest.mark.parametrize("filling", [b"a", b"a: b\r\n", b"\r\na:"])
def test_heads_without_end(server: Server, begin: bytes, filling: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(begin)
        assert_connection_ends(connection, filling)


@pytest.mark.parametrize("filling", [b"a", b"a: b\r\n"])
def test_trailers_and_extensions_without_end(server: Server, filling: bytes) -> None:
    for begin in (b"0\r\nX: ", b"0\r\n", b"1;"):
        with server.connect() as connection:
            connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + begin)
            assert_connection_ends(connection, filling)


def test_nothing_is_held_afterwards(server: Server) -> None:
    for _ in range(3):
        server.ask(CANARY * 3, answers=3)
        server.ask(head_of(67_000, 1000))
        server.ask(POST + OFFERS["h2c"] + FRAMES["chunks"][0] + FRAMES["chunks"][1], answers=1)
    until(lambda: server.gate.held == 0)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_flood_of_heads_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand clients send 300 KB of head each, and none of them its end."""
    monkeypatch.setattr(connections, "_HEADS", 8 << 20)
    with Server(LIMITS._replace(head_bytes=1 << 20)) as server, contextlib.ExitStack() as stack:
        server.ask(CANARY, answers=1)
        before = psutil.Process().memory_info().rss
        for _ in range(1000):
            connection = stack.enter_context(server.connect())
            with contextlib.suppress(ConnectionError):
                connection.sendall(head_of(300_000, 300)[:-2])
        until(lambda: len(server.refused) > 900)
        assert server.gate.held <= 9 << 20
        assert psutil.Process().memory_info().rss - before < 150 << 20
        assert (503, "too many requests are being read") in server.refused


def test_half_heads_and_idle_connections_end() -> None:
    with Server(
        ClientLimits(connections=100, head_bytes=65536, head_wait=1, idle_wait=3)
    ) as server:
        quiet, half, slow, used = (server.connect() for _ in range(4))
        half.sendall(b"GET / HTTP/1.1\r\nHost:")
        slow.sendall(b"GET / HTTP/1.1\r\nX: ")
        used.sendall(CANARY + b"GET ")
        used.settimeout(30)
        began = time.monotonic()
        got = read(half, 0)
        assert (got.statuses, got.closed) == ([408], True)
        assert time.monotonic() - began >= 0.9
        with pytest.raises(ConnectionError):  # noqa: PT012 - each byte may be the one too late
            while True:
                slow.sendall(b"a")
                time.sleep(0.1)
        got = read(used, 0)
        assert (got.statuses, got.closed) == ([200, 408], True)
        assert read(quiet, 0) == Answers(b"", closed=True)
        assert time.monotonic() - began >= 2.9
        for connection in (quiet, half, slow, used):
            connection.close()


def test_idle_connections_are_kept_between_requests() -> None:
    limits = ClientLimits(connections=100, head_bytes=65536, head_wait=1, idle_wait=30)
    with Server(limits) as server, server.connect() as connection:
        for _ in range(2):
            connection.sendall(CANARY)
            assert read(connection, 1).statuses == [200]
            time.sleep(1.7)
        assert len(server.seen) == 2


def test_a_body_may_take_longer_than_a_head() -> None:
    with Server(
        ClientLimits(connections=100, head_bytes=65536, head_wait=1, idle_wait=1)
    ) as server:
        got = server.ask(POST + LENGTH + b"\r\n", *[INNER[:1], *cut(INNER[1:], 15)], answers=1)
        assert got.statuses == [200]
        with server.connect() as connection:
            connection.sendall(POST + OFFERS["h2c"] + LENGTH + b"\r\n")
            time.sleep(2)
            connection.sendall(INNER)
            assert read(connection, 1).statuses == [200]


def test_beyond_the_limit_health_checks_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_SPARE", 3)
    with Server(LIMITS._replace(connections=5)) as server, contextlib.ExitStack() as stack:
        kept = [stack.enter_context(server.connect()) for _ in range(5)]
        for connection in kept:
            connection.sendall(CANARY)
            got = read(connection, 1)
            assert (got.statuses, got.closed) == ([200], False)
        for _ in range(10):
            got = server.ask(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (got.statuses, got.closed) == ([200], True)
            got = server.ask(CANARY)
            assert (got.statuses, got.closed, server.seen) == ([503], True, [])
            assert b"retry-after: 1" in got.data
        spare = [stack.enter_context(server.connect()) for _ in range(3)]
        time.sleep(0.2)
        refused = server.ask()
        assert (refused.statuses, refused.closed) == ([503], True)
        # Who holds a spare place without asking loses it soon.
        for connection in spare:
            assert read(connection, 0) == Answers(b"", closed=True)
        for connection in kept:
            connection.sendall(CANARY)
            assert read(connection, 1).statuses == [200]
        assert set(server.refused) == {(503, "too many connections")}


def test_no_look_through_all_objects_with_many_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "_OLD_EVERY", 0)
    looks: list[int] = []

    def look(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            looks.append(threading.get_ident())

    with Server() as few:
        few.ask(CANARY, answers=1)
        gc.callbacks.append(look)
        try:
            until(lambda: looks)
            monkeypatch.setattr(connections, "_FEW", 0)
            with few.connect() as connection:
                connection.sendall(CANARY)
                assert read(connection, 1).statuses == [200]
                looks.clear()
                kept = [[number] for number in range(1_000_000)]
                time.sleep(1.2)
                assert (len(kept), looks) == (1_000_000, [])
        finally:
            gc.callbacks.remove(look)


def test_open_files() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, before[1]), before[1]))
    try:
        assert connections.open_files() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("files", "limit"), [(1 << 20, 16384), (4096, 3536), (100, 1)])
def test_connections_leave_files_for_other_things(files: int, limit: int) -> None:
    read_settings = settings.read({"MLFLOW_MODELS_WORKERS": "2", "MLFLOW_MODELS_CONCURRENCY": "12"})
    assert connections.limits(read_settings, files) == ClientLimits(limit, 65536, 10, 75)


def test_refusals_are_told_once_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    counted: list[int] = []

    async def report() -> None:
        one = Report(lambda status, _: counted.append(status), say)
        for _ in range(1000):
            one(HTTPStatus.BAD_REQUEST, "malformed")
        await asyncio.sleep(1.2)
        one(HTTPStatus.BAD_REQUEST, "malformed")
        await asyncio.sleep(1.2)

    asyncio.run(report())
    assert len(counted) == 1001
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("refused: ")[2] for line in lines] == [
        *("malformed (1)", "malformed (999)", "malformed (1)")
    ]
