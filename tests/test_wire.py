"""HTTP/1.1 as bytes: what is sent, what comes back, and what is held against a server."""

from __future__ import annotations

import resource
import socket
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from seatrial.errors import UserError
from seatrial.wire import conformance, framing, heads, idle_connections
from seatrial.wire.cases import Expected, WireCase, WireTarget, chunked
from seatrial.wire.conformance import judge, try_out
from seatrial.wire.exchange import HTTPAddress, WireAnswer, WireExchange, converse, read_answers
from seatrial.wire.heads import Endless, Slow
from seatrial.wire.idle_connections import IdleConnections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TARGET = WireTarget(
    HTTPAddress("127.0.0.1", 8080), "/ping", "/invocations", "application/json", b'{"a":1}'
)
OK = WireAnswer(200, {}, b"ok")
BAD, ABSENT = WireAnswer(400), WireAnswer(404)
CLOSING = WireAnswer(400, {"connection": "close"})


class Lenient(BaseHTTPRequestHandler):
    """Knows no coding: a body in chunks is read as the next request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer every path that begins as that of health."""
        self._answer(200 if self.path.startswith("/ping") else 404)

    def do_POST(self) -> None:
        """Read a body that has a length."""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._answer(200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def lenient() -> Iterator[WireTarget]:
    """A server that gets much of the framing wrong."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Lenient) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield at(server.server_address[1])
        server.shutdown()


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[WireTarget]:
    """A server that does something with each connection, and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    serve(connection)

        threading.Thread(target=run, daemon=True).start()
        yield at(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def at(port: int) -> WireTarget:
    address = HTTPAddress("127.0.0.1", port)
    return WireTarget(address, "/ping", "/invocations", "application/json", b'{"a":1}')


def test_there_are_many_cases_and_each_has_a_name_of_its_own() -> None:
    found = [*framing.cases(TARGET), *framing.upgrades(TARGET)]
    assert len(found) >= 200
    twice = [name for name, count in Counter(str(case) for case in found).items() if count > 1]
    assert not twice
    assert {case.expected for case in found} == set(Expected)
    assert all(case.parts and all(case.parts) for case in found)


@pytest.mark.parametrize("expected", [Expected.REFUSED, Expected.CLOSED])
def test_what_is_ambiguous_hides_a_request(expected: Expected) -> None:
    found = [case for case in framing.cases(TARGET) if case.expected is expected]
    bare = [str(case) for case in found if TARGET.hidden not in b"".join(case.parts)]
    assert not bare


def test_chunks() -> None:
    assert chunked(b"ab", b"c", trailers=b"X: 1\r\n") == b"2\r\nab\r\n1\r\nc\r\n0\r\nX: 1\r\n\r\n"


@pytest.mark.parametrize(
    ("received", "methods", "statuses", "rest"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * 2, (), [200, 200], b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ok"), (), [200], b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n", (), [204], b""),
        (b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 204 No\r\n\r\n", (), [204], b""),
        (b"HTTP/1.1 101 Switching\r\n\r\n\x00\x01", (), [101], b"\x00\x01"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", ("HEAD",), [200], b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", (), [], None),
        (b"garbage\r\n\r\n", (), [], b"garbage\r\n\r\n"),
        (b"", (), [], b""),
    ],
)
def test_answers_are_read_one_after_the_other(
    received: bytes, methods: tuple[str, ...], statuses: list[int], rest: bytes | None
) -> None:
    answers, left = read_answers(received, methods)
    assert [answer.status for answer in answers] == statuses
    assert left == (received if rest is None else rest)


def case(expected: Expected, *statuses: int | None, known: bool = True) -> WireCase:
    sent = TARGET.post("Content-Length: 1", body=TARGET.hidden)
    return WireCase("family", "name", expected, (sent,), statuses or (None,), known=known)


@pytest.mark.parametrize(
    ("made", "found", "message"),
    [
        (case(Expected.REFUSED), WireExchange((BAD,), closed=True), ""),
        (case(Expected.REFUSED), WireExchange((), closed=True), ""),
        (case(Expected.REFUSED), WireExchange((), closed=False), "left open"),
        (case(Expected.REFUSED), WireExchange((BAD,), closed=False), "left open"),
        (case(Expected.REFUSED), WireExchange((OK,), closed=True), "as if nothing were wrong"),
        (case(Expected.REFUSED), WireExchange((BAD, OK), closed=True), "should have been closed"),
        (case(Expected.REFUSED), WireExchange((ABSENT,), closed=True), "hidden in the body"),
        (case(Expected.CLOSED), WireExchange((OK,), closed=True), ""),
        (case(Expected.CLOSED), WireExchange((OK,), closed=False), "left open"),
        (case(Expected.CLOSED), WireExchange((OK, OK), closed=True), "should have been closed"),
        (case(Expected.SAFE), WireExchange((), closed=False), ""),
        (case(Expected.SAFE), WireExchange((BAD,), closed=True), ""),
        (case(Expected.SAFE), WireExchange((BAD, OK), closed=True), ""),
        (case(Expected.SAFE), WireExchange((BAD, ABSENT), closed=True), "another answer"),
        (case(Expected.SAFE), WireExchange((BAD, ABSENT, OK), closed=True), "3 answers to 2"),
        (case(Expected.SAFE), WireExchange((ABSENT, OK), closed=True), "hidden in the body"),
        (case(Expected.SAFE, known=False), WireExchange((ABSENT, OK), closed=True), ""),
        (case(Expected.SAFE), WireExchange((OK,), closed=True, rest=b"?"), "no answer"),
        (case(Expected.ANSWERED), WireExchange((BAD, OK), closed=True), ""),
        (case(Expected.ANSWERED), WireExchange((CLOSING,), closed=True), ""),
        (case(Expected.ANSWERED), WireExchange((BAD,), closed=True), "followed got no answer"),
        (case(Expected.ANSWERED), WireExchange((), closed=True), "0 answers to 1"),
        (case(Expected.ANSWERED, 200), WireExchange((BAD, OK), closed=True), "answered with 400"),
        (
            case(Expected.ANSWERED),
            WireExchange((WireAnswer(500), OK), closed=True),
            "answered with 500",
        ),
        (case(Expected.LAST, 200), WireExchange((OK,), closed=True), ""),
        (case(Expected.LAST, 200), WireExchange((OK,), closed=False), "left open"),
        (case(Expected.LAST, 200), WireExchange((OK, OK), closed=True), "should have been closed"),
    ],
)
def test_verdicts(made: WireCase, found: WireExchange, message: str) -> None:
    fault = judge(made, found, OK)
    assert message in str(fault) if message else fault is None


def test_a_server_that_knows_no_coding_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = dict.fromkeys(Expected, 0.3)
    monkeypatch.setattr(conformance, "_QUIET_BY_EXPECTATION", quiet)
    with lenient() as target:
        found = [case for case in framing.cases(target) if case.family == "coding"][:20]
        faults = try_out(target, found)
        correct = [case for case in framing.cases(target) if case.family == "correct length"]
        assert not try_out(target, correct)
    assert any(fault.desynchronised for fault in faults)


def test_a_server_that_answers_nothing_is_no_target() -> None:
    with listening(lambda _: None) as target, pytest.raises(LookupError, match="/ping"):
        try_out(target, [])


def test_what_is_refused_early_is_no_error() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n")

    with listening(refuse) as target:
        found = converse(target.address, [b"a" * 10_000_000], quiet=1)
    assert found.closed


def test_endless_requests_are_sent_until_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "MOST", 1 << 20)
    monkeypatch.setattr(heads, "_STALLED", 0.3)

    def swallow(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            pass

    def cut(connection: socket.socket) -> None:
        connection.recv(1 << 16)

    endless = Endless("target", b"GET /", b"a")
    with listening(swallow) as target:
        assert heads.taken(target.address, endless) == 1 << 20
    with listening(cut) as target:
        assert heads.taken(target.address, endless) is None


def test_slow_heads_are_waited_for() -> None:
    def wait(connection: socket.socket) -> None:
        connection.settimeout(5)
        while connection.recv(100):
            pass

    slow = Slow("trickling line", b"GET /", b"a")
    with listening(wait) as target:
        assert heads.lasts(target.address, slow, 1.0) is None
    with listening(lambda _: None) as target:
        assert heads.lasts(target.address, slow, 5.0) is not None


def test_malformed_requests_come_in_all_kinds() -> None:
    found = list(heads.malformed(TARGET, 1000))
    assert len(found) == 1000
    assert len({sent for _, sent in found}) > 200


def test_idle_connections_are_used_in_the_end() -> None:
    with lenient() as target, IdleConnections(target) as idle:
        idle.open(20)
        assert not idle.refused
        assert len(idle) == 20
        assert idle.use() == []


def test_idle_connections_that_are_refused_are_told() -> None:
    with listening(lambda _: None) as target, IdleConnections(target) as idle:
        idle.open(4)
        assert idle.refused == "4 of 4 were closed at once, for others"


def test_too_few_open_files_are_a_fault_of_the_machine() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no limit of open files here")
    with pytest.raises(UserError, match="ulimit"):
        idle_connections.allow_files(hard + 1)
