"""The tracking server's front: uvicorn with the protocol that ships, before a small app."""

from __future__ import annotations

import gzip
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zlib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from anyio.pytest_plugin import FreePortFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

free_port = FreePortFactory(socket.SOCK_STREAM)
PACKAGE = Path(__file__).parents[1]
APP = """
import asyncio, json, time
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(float(scope["query_string"]))
    if scope["path"] == "/hang":
        time.sleep(600)
    body = json.dumps({
        "method": scope["method"], "path": scope["path"], "body": len(body),
        "upgrade": any(name == b"upgrade" for name, _ in scope["headers"]),
    }).encode()
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})
"""
STARTER = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 600))
from mlflow_entrypoint import admission, front, settings, watchdog
front.HEAD_SECONDS = 1
front.BODY_SECONDS = 2
admission.QUEUE = 2
admission.STREAMS = 2
admission.QUEUE_SECONDS = 2
watchdog.LIMIT, watchdog.PERIOD = 2.0, 0.5
from uvicorn.main import main
main([*settings.uvicorn_options({}).split(), "--timeout-keep-alive", "2", *sys.argv[1:]])
"""
"""The limits are lower than those that ship, so that the tests need not wait."""
HOST = b"Host: localhost\r\n"
GET = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET /last HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
LIMIT = 100_000


class Front:
    """A running server."""

    def __init__(self, folder: Path) -> None:
        (folder / "small_app.py").write_text(APP)
        self.port = free_port()
        self.log = folder / "log"
        variables = {
            "PYTHONPATH": f"{PACKAGE}:{folder}",
            "MLFLOW_MAX_REQUEST_BYTES": str(LIMIT),
            "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "1",
            "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "1",
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", STARTER, "--port", str(self.port), "small_app:app"],
                env={**os.environ, **variables},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 120
        while "Application startup complete" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()

    def connect(self) -> socket.socket:
        """Open a connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def talk(self, *parts: bytes) -> list[bytes]:
        """Send `parts` one after the other; the statuses of all answers until the end."""
        return re.findall(rb"HTTP/1\.1 (\d{3}) ", self.exchange(*parts))

    def exchange(self, *parts: bytes) -> bytes:
        """Send `parts` one after the other, and receive until the end."""
        with closing(self.connect()) as connection:
            for part in parts:
                connection.sendall(part)
                time.sleep(0.05 if len(parts) > 1 else 0)
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    try:
        while more := connection.recv(65536):
            received += more
    except ConnectionResetError:
        pass  # it closes a connection whose body it has not read
    return received


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    found = Front(tmp_path_factory.mktemp("front"))
    yield found
    found.close()


def post(path: str, *fields: str, body: bytes = b"") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.mark.parametrize("offer", ["h2c", "websocket", "TLS/1.0", "foo/2, bar"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_body_after_an_offer_is_a_body(
    front: Front, offer: str, chunked: bool, apart: bool
) -> None:
    hidden = b"GET /hidden HTTP/1.1\r\n" + HOST + b"\r\n"
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden) if chunked else hidden
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(hidden)}"
    head = post("/first", "Connection: Upgrade", f"Upgrade: {offer}", length)
    parts = [head, body, LAST] if apart else [head + body + LAST]
    received = front.exchange(*parts)
    assert received.count(b"HTTP/1.1 200 ") == 2
    assert b"/hidden" not in received
    assert b'"body": %d, "upgrade": false' % len(hidden) in received


@pytest.mark.parametrize(
    "sent",
    [
        post("/", "Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        post("/", "Transfer-Encoding: chunked", "Content-Length: 5", body=b"0\r\n\r\n"),
        post("/", "Content-Length: 5", "Content-Length: 5", body=b"abcde"),
        post("/", "Content-Length: 5, 5", body=b"abcde"),
        post("/", "Content-Length: 5", "content-length: 6", body=b"abcde"),
        post("/", "Content-Length: +5", body=b"abcde"),
        post("/", "Content-Length: 5 5", body=b"abcde"),
        post("/", "Content-Length:", body=b"abcde"),
        post("/", "Content-Length: 0x5", body=b"abcde"),
        post("/", "Content-Length : 5", body=b"abcde"),
        post("/", "Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
        post("/", "Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
        post("/", "X: a\r\n Content-Length: 5", body=b"abcde"),
        post("/", "X: a\nContent-Length: 5", body=b"abcde"),
        post("/", "X: a\rContent-Length: 5", body=b"abcde"),
        post("/", "Transfer-Encoding: chunked", body=b"5\nabcde\r\n0\r\n\r\n"),
        post("/", "Transfer-Encoding: chunked", body=b"5;a\rb\r\nabcde\r\n0\r\n\r\n"),
        post("/", "Transfer-Encoding: chunked", body=b"5\r\nabcdefg0\r\n\r\n"),
        post("/", "Transfer-Encoding: chunked", body=b"-5\r\nabcde\r\n0\r\n\r\n"),
        post("/", "Transfer-Encoding: chunked", body=b"0x5\r\nabcde\r\n0\r\n\r\n"),
        post("/", "Transfer-Encoding: chunked", body=b"0" * 17 + b"5\r\nabcde\r\n0\r\n\r\n"),
        b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
        b"GET / HTTP/0.9\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_is_ambiguous_ends_the_connection(front: Front, sent: bytes) -> None:
    found = front.talk(sent + LAST)
    assert len(found) == 1
    assert found[0][:1] in (b"4", b"5")


def test_sizes_of_heads(front: Front) -> None:
    def head(size: int) -> bytes:
        return LAST[:-2] + b"X: " + b"a" * size + b"\r\n\r\n"

    assert front.talk(head(32 * 1024)) == [b"200"]
    assert front.talk(head(128 * 1024)) in ([b"431"], [])


def test_head_that_never_ends_is_cut(front: Front) -> None:
    with closing(front.connect()) as connection:
        began = time.monotonic()
        connection.sendall(GET[:-2])
        assert read_all(connection) == b""
        assert time.monotonic() - began >= 1


@pytest.mark.parametrize("path", ["/api", "/api/2.0/mlflow-artifacts/artifacts/x"])
def test_body_that_never_comes_is_cut(front: Front, path: str) -> None:
    with closing(front.connect()) as connection:
        connection.sendall(post(path, "Content-Length: 5", body=b"a"))
        assert read_all(connection) == b""


def test_artifact_whose_bytes_flow_takes_its_time(front: Front) -> None:
    parts = [b"a"] * 8
    with closing(front.connect()) as connection:
        connection.sendall(
            post(
                "/api/2.0/mlflow-artifacts/artifacts/x",
                f"Content-Length: {len(parts)}",
                "Connection: close",
            )
        )
        for part in parts:
            time.sleep(0.5)
            connection.sendall(part)
        assert b'"body": 8' in read_all(connection)


def test_idle_connection_is_closed(front: Front) -> None:
    with closing(front.connect()) as connection:
        assert read_all(connection) == b""
    with closing(front.connect()) as connection:
        connection.sendall(GET)
        assert read_all(connection).startswith(b"HTTP/1.1 200")


def test_sizes_of_bodies(front: Front) -> None:
    artifact = "/api/2.0/mlflow-artifacts/artifacts/x"
    large, chunk = LIMIT + 1, b"%x\r\n%b\r\n" % (LIMIT, b"a" * LIMIT)
    encoded = "Transfer-Encoding: chunked"
    assert front.talk(post("/", f"Content-Length: {LIMIT}", body=b"a" * LIMIT) + LAST) == [
        b"200",
        b"200",
    ]
    for sent in (
        post("/", f"Content-Length: {large}", body=b"a" * large),
        post("/", encoded, body=chunk + chunk + b"0\r\n\r\n"),
    ):
        assert front.talk(sent + LAST) == [b"413", b"200"]
    assert front.talk(post(artifact, f"Content-Length: {large}", body=b"a" * large) + LAST) == [
        b"200",
        b"200",
    ]
    assert front.talk(post("/", f"Content-Length: {large}", "Expect: 100-continue")) == [b"413"]


def _deflated(size: int) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(bytes(size)) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", lambda size: gzip.compress(bytes(size))),
        ("GZIP", lambda size: gzip.compress(b"a") + gzip.compress(bytes(size - 1))),
        ("gzip", lambda size: gzip.compress(bytes(size + 1_000_000))[:-400]),
        ("deflate", lambda size: zlib.compress(bytes(size))),
        ("deflate", _deflated),
    ],
    ids=["gzip", "two-members", "broken", "zlib", "raw"],
)
def test_sizes_of_unpacked_bodies(
    front: Front, encoding: str, pack: Callable[[int], bytes], request: pytest.FixtureRequest
) -> None:
    def send(size: int) -> list[bytes]:
        body = pack(size)
        fields = (f"Content-Length: {len(body)}", f"Content-Encoding: {encoding}")
        return front.talk(post("/v1/traces", *fields, body=body) + LAST)

    assert send(10 * LIMIT) == [b"413", b"200"]
    if request.node.callspec.id != "broken":
        assert send(LIMIT) == [b"200", b"200"]


def test_head_is_asked_as_get(front: Front) -> None:
    received = front.exchange(GET.replace(b"GET", b"HEAD") + LAST)
    head, last = received.split(b"HTTP/1.1 ")[1:]
    assert head.startswith(b"200")
    assert head.endswith(b"\r\n\r\n")
    assert b'"method": "GET"' in last


def test_load_is_shed(front: Front) -> None:
    """Two run, two wait, and the others are told at once; health checks come first."""
    slow = b"GET /slow?3 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    held = [front.connect() for _ in range(4)]
    for connection in held:
        connection.sendall(slow)
        time.sleep(0.1)
    received = front.exchange(LAST)
    assert received.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in received
    assert front.exchange(GET[:-2] + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    answers = [read_all(connection)[9:12] for connection in held]
    # Those that wait do so for two seconds, and are then told to come again.
    assert answers == [b"200", b"200", b"503", b"503"]
    for connection in held:
        connection.close()


def test_connections_without_requests_give_way(front: Front) -> None:
    """The hard limit of open files is 600: more connections than the rest of them has room for."""
    held = [front.connect() for _ in range(500)]
    assert front.talk(LAST) == [b"200"]
    for connection in held:
        connection.close()


def test_malformed_requests_leave_few_lines(front: Front) -> None:
    before = front.log.read_text().count("\n")
    for _ in range(200):
        front.talk(b"nonsense\r\n\r\n")
        front.talk(LAST[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    added = front.log.read_text().splitlines()[before:]
    assert len([line for line in added if "WARNING" in line]) <= 40
    assert "Traceback" not in front.log.read_text()


def test_loop_that_hangs_ends_the_worker(tmp_path: Path) -> None:
    """Here the only one, which others would follow."""
    front = Front(tmp_path)
    with closing(front), closing(front.connect()) as connection:
        connection.sendall(b"GET /hang HTTP/1.1\r\n" + HOST + b"\r\n")
        assert front.process.wait(60) == -signal.SIGKILL
    log = front.log.read_text()
    assert "has hung for 2 s and is killed" in log
    assert "small_app.py" in log, "it doesn't say where"
