"""What `invoke bench limits` makes of what it sees, without an engine."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from bench import client_runs, connection_load, hanging, limits_suite, overload, suites
from bench.candidate import Candidate
from bench.load import Call
from seatrial.wire.cases import request
from seatrial.wire.exchange import HTTPAddress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.candidate import Running

CALL = Call("/invocations", {"x": 1})
BODY = json.dumps(CALL.body)


@contextmanager
def server(*statuses: int, retry_after: bool = True) -> Iterator[HTTPAddress]:
    """Gives POST these statuses in turn, the last one again and again, and GET 200."""
    left = list(statuses)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        """Answers at once."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Answer a health check."""
            self._answer(200)

        def do_POST(self) -> None:
            """Answer what comes next."""
            if length := self.headers.get("Content-Length"):
                self.rfile.read(int(length))
            else:
                while self.rfile.readline() != b"0\r\n":
                    pass
                self.rfile.readline()
            with lock:
                status = left.pop(0) if len(left) > 1 else left[0]
            self._answer(status)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            if status == 503 and retry_after:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "15")
            self.end_headers()
            self.wfile.write(b'{"predictions"}')

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        """Takes as many connections at a time as a test opens."""

        request_queue_size = 100
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield HTTPAddress("127.0.0.1", listening.server_address[1])
        listening.shutdown()


def test_requests_at_a_rate_are_told_apart() -> None:
    with server(200, 503, 500, 200) as address:
        flow = overload.send_at_rate(f"http://{address.name}", CALL, rate=200, seconds=0.1)
    assert flow.sent == 20
    assert (len(flow.accepted), len(flow.shed), flow.without_retry_after) == (18, 1, 0)
    assert flow.errors == {"500": 1}
    assert "18 were answered, 1 got 503 (0 without Retry-After), 500: 1" in str(flow)
    assert flow.slowest_accepted > 0


def test_what_is_shed_has_to_say_when_to_come_again() -> None:
    with server(503, retry_after=False) as address:
        flow = overload.send_at_rate(f"http://{address.name}", CALL, rate=100, seconds=0.05)
    assert flow.without_retry_after == len(flow.shed) == 5


def test_what_never_came_took_for_ever() -> None:
    assert overload.OverloadResult().slowest_shed == float("inf")
    assert overload.OverloadResult().slowest_accepted == float("inf")


def test_connections_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_load, "SECONDS", 0.6)
    looked: list[int] = []
    with server(200, 503, 200) as address:
        plan = connection_load.ConnectionPlan(
            address,
            idle=10,
            active=5,
            first=request("GET /ping HTTP/1.1", f"Host: {address.name}"),
            request=request("POST / HTTP/1.1", f"Host: {address.name}", "Content-Length: 0"),
            path="/ping",
            pause=0.05,
        )
        found = connection_load.run(plan, lambda: looked.append(1))
    assert (found.open, found.lost) == (10, 0)
    assert found.statuses[503] == 1
    assert found.statuses[200] > 5
    assert found.slowest_ping < 1000
    assert looked == [1]


def test_connections_without_an_answer_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_load, "SECONDS", 0.2)
    with server(200) as address:
        pass
    plan = connection_load.ConnectionPlan(
        address, idle=3, active=2, first=b"", request=b"", path="/", pause=0.05
    )
    found = connection_load.run(plan, lambda: None)
    assert (found.open, found.lost) == (0, 5)
    assert found.slowest_ping >= 1000


def running(address: HTTPAddress) -> Running:
    return cast("Running", SimpleNamespace(base=f"http://{address.name}", candidate=None))


def test_a_server_is_well_once_all_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hanging, "_PAUSE", 0.01)
    monkeypatch.setattr(hanging, "ASK_LIMIT", 1.0)
    with server(*[200] * 5, 504, 200) as address:
        url = f"{running(address).base}/invocations"
        body: dict[str, Any] = {}
        took = hanging._measure(url, body, time.monotonic())
    assert 0 < took < 30


def test_a_server_that_never_recovers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hanging, "LONGEST", 0.3)
    with server(504) as address:
        took = hanging._measure(running(address).base, {}, time.monotonic())
    assert took == 0.3


@pytest.mark.parametrize("client", client_runs.CLIENTS, ids=lambda client: client.name)
def test_clients_count_good_answers(
    client: client_runs.HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not client.is_there or client.needs in ("java", "go"):
        pytest.skip("it is compiled first, or not here")
    monkeypatch.setattr(client_runs, "COUNT", 6)
    with server(200, 500, 200) as address:
        found = client.send(f"http://{address.name}/invocations", BODY)
    assert found == 5


def test_programs_that_are_missing_are_told() -> None:
    missing = client_runs.HttpClient("none", "no-such-program-at-all", lambda _, __: 0)
    module = client_runs.HttpClient("none", "no_such_module.", lambda _, __: 0)
    assert not missing.is_there
    assert not module.is_there


def test_the_soft_limit_of_files_is_the_engines() -> None:
    limited = limits_suite.limited(Candidate("name", "image", limits={"mem_limit": "2g"}))
    assert limited.limits["mem_limit"] == "2g"
    assert limited.limits["ulimits"][0].soft == 1024


def test_parts_of_the_suite() -> None:
    chosen = suites.choose("limits", ("clients", "framing"), cold=False, full=False, repeat=1)
    assert chosen == ("framing", "clients")
