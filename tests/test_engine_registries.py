"""Telling a registry from whatever else may answer at its address."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from seatrial.engine import registries
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def server(status: int, headers: dict[str, str]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = status if self.path == "/v2/" else 404
            self.send_response(found)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {}, True),
        (401, {"WWW-Authenticate": "Bearer realm=x"}, True),
        (401, {}, False),
        (403, {}, False),
        (404, {}, False),
        (302, {"Location": "/login"}, False),
    ],
)
def test_what_counts_as_an_answer(status: int, headers: dict[str, str], *, expected: bool) -> None:
    with server(status, headers) as host:
        assert registries.answers(host) is expected


def test_nobody_there() -> None:
    assert not registries.answers("127.0.0.1:9")
    assert not registries.answers("registry.invalid")


@pytest.mark.parametrize("reference", ["https://example.invalid/x", "-bad.invalid/image"])
def test_malformed_references(reference: str) -> None:
    with pytest.raises(UserError, match="is no image reference"):
        registries.resolve(reference)
