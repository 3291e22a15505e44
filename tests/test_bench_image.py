"""What `invoke bench image` makes of what it sees, without an engine."""

from __future__ import annotations

import gzip
import io
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from bench import image_suite, load, report_table, size, suites
from bench.candidate import proportional_size
from bench.figures import Bar, Figure, Meaning, SuiteReport
from bench.image_suite import TrackingRound
from bench.load import Call
from bench.machine import MeasuredMachine
from seatrial.errors import UserError
from seatrial.inspection.layer import decompressed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHARE = Figure("start", "s", 3.0, "upstream", 30.0, Bar(share=0.4), meaning=Meaning.SHARE)
MACHINE = MeasuredMachine(
    processor="A processor",
    cores=2,
    memory=8 * 2**30,
    kernel="6.1",
    engine="26.1",
    buildx="0.13",
    buildkit="unknown",
    emulator="",
    python="3.11",
    commit="0123456789abcdef",
)
MEASURED = TrackingRound(
    start=30.0,
    memory=2000.0,
    memory_after=2500.0,
    processes=15,
    call=50.0,
    large_call=10.0,
    write=55.0,
    reads=60.0,
    slow_reads=9.0,
    cost=12.0,
    writes=80.0,
    errors=0,
    client_share=0.05,
)


@pytest.mark.parametrize(
    ("bar", "value", "met"),
    [
        (Bar(share=0.4), 12.0, True),
        (Bar(share=0.4), 12.1, False),
        (Bar(least_share=1.0), 30.0, True),
        (Bar(least_share=1.0), 29.9, False),
    ],
)
def test_bar_on_a_share(bar: Bar, value: float, met: bool) -> None:
    assert replace(SHARE, bar=bar, value=value).met is met


def test_share_is_told_with_its_bar() -> None:
    assert SHARE.ratio == 0.1
    assert report_table.row(SHARE)[4:] == ("0.10x", "≤ 0.4x", "met")
    assert report_table.row(replace(SHARE, bar=Bar(least_share=1.0)))[5:] == ("≥ 1x", "NOT MET")
    assert replace(SHARE, baseline=0.0).ratio is None


def test_share_survives_json() -> None:
    report = SuiteReport("image", "2026-01-02T03:04:05+00:00", MACHINE, {}, (SHARE,))
    assert SuiteReport.from_json(report.as_json()) == report


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor(level=19).compress])
def test_layers_weigh_alike_however_they_are_stored(pack: Any) -> None:
    content = b"a layer of many repeated words " * 10_000
    opened = decompressed(io.BytesIO(pack(content)))
    assert size.compressed(opened) == size.compressed(io.BytesIO(content))


def test_proportional_size_is_read_from_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "smaps_rollup").write_text("00-7f ---p\nRss:  900 kB\nPss:  250 kB\n")
    assert proportional_size(tmp_path) == 0.256
    (tmp_path / "smaps_rollup").write_text("")
    assert proportional_size(tmp_path) == 0.0


@contextmanager
def server(*statuses: int) -> Iterator[ThreadingHTTPServer]:
    """Answers with each of `statuses` in turn, again and again."""
    lock, answered = threading.Lock(), 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            nonlocal answered
            with lock:
                status = statuses[answered % len(statuses)]
                answered += 1
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


@pytest.mark.parametrize("call", [Call("/x"), Call("/x", {"key": "value"})])
def test_many_clients_send_as_many_requests_as_told(call: Call) -> None:
    with server(200, 200, 200, 503) as found:
        base = f"http://127.0.0.1:{found.server_port}"
        result = load.many_at_once(base, [call], clients=7, requests=40)
    assert result.errors == {"503": 10}
    assert 0 < result.median <= result.slowest_percent
    assert result.rate > 0


def test_a_server_that_is_away_gives_errors() -> None:
    with server(200) as found:
        base = f"http://127.0.0.1:{found.server_port}"
    result = load.many_at_once(base, [Call("/")], clients=3, requests=6)
    assert result.errors == {"ClientConnectorError": 6}
    assert result.rate == 0


def test_one_client_takes_no_other_answer() -> None:
    with server(200) as found:
        took = load.one_after_the_other("127.0.0.1", found.server_port, Call("/"), warm=2, count=5)
        assert 0 < took < 1000
    call = Call("/nothing")
    with server(404) as found, pytest.raises(UserError, match="GET /nothing was answered with 404"):
        load.one_after_the_other("127.0.0.1", found.server_port, call, warm=0, count=1)


def test_a_server_that_is_away_ends_a_single_client() -> None:
    with server(200) as found:
        port = found.server_port
    with pytest.raises(UserError, match=r"GET / was not answered: .*refused"):
        load.one_after_the_other("127.0.0.1", port, Call("/"), warm=0, count=1)
    with pytest.raises(UserError, match="runs/create was not answered"):
        image_suite.create_run(f"http://127.0.0.1:{port}")


def test_rounds_count_by_their_medians_and_errors_by_their_sum() -> None:
    rounds = [replace(MEASURED, start=start, errors=1) for start in (30.0, 99.0, 31.0)]
    assert image_suite.medians_of(rounds) == replace(MEASURED, start=31.0, errors=3)


def test_every_bar_of_serving() -> None:
    good = replace(
        MEASURED, start=12.0, memory=600.0, memory_after=750.0, call=10.0, reads=60.0, errors=0
    )
    figures = {figure.name: figure for figure in image_suite.compare("slim", good, MEASURED)}
    barred = {name: figure.met for name, figure in figures.items() if figure.bar}
    assert barred == {
        "slim: first /health": True,
        "slim: memory (PSS)": True,
        "slim: memory after 200 clients": True,
        "slim: runs/get, p50": True,
        "slim: runs/get by 200 clients": True,
        "slim: errors of 200 clients": True,
    }
    failing = replace(good, errors=1, reads=59.9)
    missed = {
        figure.name for figure in image_suite.compare("slim", failing, MEASURED) if not figure.met
    }
    assert missed >= {"slim: errors of 200 clients", "slim: runs/get by 200 clients"}


def test_parts_and_options_of_the_suite() -> None:
    assert suites.choose("image", (), cold=False, full=False, repeat=1) == image_suite.PARTS
    with pytest.raises(UserError, match="unknown part 'warm': known are size, serving"):
        suites.choose("image", ("warm",), cold=False, full=False, repeat=1)
    with pytest.raises(UserError, match="--cold belongs to the suite 'build'"):
        suites.choose("image", (), cold=True, full=False, repeat=1)
