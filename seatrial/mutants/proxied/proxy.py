"""A proxy before an MLflow server that answers wrongly in one way."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_OF_A_CONNECTION = {"host", "connection", "content-length", "accept-encoding"}
"""Headers that are not the server's to see: MLflow's own, such as an experiment's id, are."""


@dataclass
class Exchange:
    """A request as it is passed on, and what is answered."""

    server: str
    method: str
    path: str
    """Without what stands behind a question mark."""
    query: list[tuple[str, str]]
    body: Any
    """JSON; None without one."""
    answer: Any = None
    """JSON, once the server has answered."""
    status: int = 0
    """Of the answer."""

    def is_about(self, path: str) -> bool:
        """Tell whether the request is for that path of MLflow's API."""
        return self.path.endswith(f"/mlflow/{path}")

    def call(self, path: str, body: object) -> Any:  # noqa: ANN401 - whatever JSON holds
        """Ask the server for something else."""
        answer = requests.post(f"{self.server}/api/2.0/mlflow/{path}", json=body, timeout=60)
        return answer.json()


class Fault:
    """What the proxy changes: nothing, in this one."""

    def before(self, exchange: Exchange) -> None:
        """Change what the server is asked."""

    def after(self, exchange: Exchange) -> None:
        """Change what the client is answered."""


def faulty(server: str, fault: Fault) -> AbstractContextManager[str]:
    """Run the proxy before `server`; gives its address."""
    return answering(_handler(server, fault))


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer requests on a port of the loopback; gives the address."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def _handler(server: str, fault: Fault) -> type[BaseHTTPRequestHandler]:
    session = requests.Session()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _pass_on(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            target = urlsplit(self.path)
            is_json = self.headers.get("Content-Type", "").startswith("application/json")
            exchange = Exchange(
                server,
                self.command,
                target.path,
                parse_qsl(target.query, keep_blank_values=True),
                json.loads(content) if content and is_json else None,
            )
            fault.before(exchange)
            passed_on = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in _OF_A_CONNECTION
            }
            answer = session.request(
                self.command,
                f"{server}{exchange.path}",
                params=urlencode(exchange.query),
                data=content if exchange.body is None else json.dumps(exchange.body),
                headers=passed_on,
                timeout=60,
            )
            body, exchange.status = answer.content, answer.status_code
            if "json" in answer.headers.get("Content-Type", ""):
                exchange.answer = answer.json()
                fault.after(exchange)
                body = json.dumps(exchange.answer).encode()
            self.send_response(exchange.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _pass_on  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nothing: pytest shows what matters."""

    return Handler
