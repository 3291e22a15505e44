"""Requests that HTTP clients send by mistake or on purpose, to a server of either kind."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest
import requests

from seatrial.wire import framing, heads
from seatrial.wire.cases import length, request
from seatrial.wire.conformance import ANSWERED_WITHIN, AT_ONCE, try_out
from seatrial.wire.exchange import WireExchange, converse, shown
from seatrial.wire.idle_connections import IdleConnections

from .http_services import (
    HttpService,
    StartService,
    model_service,
    tracking_service,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.model_server import ModelServer
    from seatrial.trial.fixtures import Launch
    from seatrial.wire.conformance import WireFault

    from .serving import ServedSample, StartServer

SHOWN = 8
"""Faults that a message names."""
KIB = 1024
LATE = 5.0
"""Seconds by which a connection may outlive its limit, natively."""
MALFORMED = 1000
MOST_LINES = 100
"""Lines of the log for all malformed requests, beside one for each second of sending them."""
OFFERS = 300
"""Requests that offer another protocol; each may leave a line in the access log."""
INTERFACES = (
    "/docs", "/docs/", "/docs/oauth2-redirect", "/redoc", "/redoc/", "/openapi.json", "/openapi",
    "/openapi.yaml", "/swagger", "/swagger.json", "/swagger-ui", "/swagger-ui.html", "/api-docs",
    "/apidocs", "/api/docs", "/api/openapi.json", "/%64ocs", "/%6fpenapi.json", "//docs",
    "//openapi.json",
)  # fmt: skip


@pytest.fixture
def service(request: pytest.FixtureRequest, image: ImageUnderTest) -> HttpService:
    """The server that tests share."""
    # By name: a test that asks for both kinds of server would run on images that have both.
    if not image.contract.serves_models:
        return tracking_service(request.getfixturevalue("server"))
    sample: ServedSample = request.getfixturevalue("sample")
    server: ModelServer = request.getfixturevalue("sample_server")
    return model_service(server, sample.model, request.getfixturevalue("serving"))


@pytest.fixture
def start_service(request: pytest.FixtureRequest, image: ImageUnderTest) -> StartService:
    """Start a server for this test alone."""

    def start() -> HttpService:
        if not image.contract.serves_models:
            launch: Launch = request.getfixturevalue("launch")
            return tracking_service(launch(request.getfixturevalue("main_settings")))
        sample: ServedSample = request.getfixturevalue("sample")
        serve_sample: StartServer = request.getfixturevalue("serve_sample")
        return model_service(serve_sample(), sample.model, request.getfixturevalue("serving"))

    return start


@pytest.mark.promise("http.ignores_upgrades")
def test_offers_of_other_protocols_are_ignored(service: HttpService) -> None:
    cases = list(framing.upgrades(service.target))
    _assert_none(try_out(service.target, cases, scale=service.scale), len(cases))


@pytest.mark.promise("http.frames_strictly")
def test_requests_end_where_the_standard_says(service: HttpService) -> None:
    cases = framing.cases(service.target)
    _assert_none(try_out(service.target, cases, scale=service.scale), len(cases))


@pytest.mark.promise("http.limits_heads")
def test_head_within_the_limit_is_answered(service: HttpService, promised_number: int) -> None:
    for name, sent in heads.large(service.target, promised_number * KIB // 2):
        found = converse(service.target.address, [sent], quiet=ANSWERED_WITHIN, scale=service.scale)
        case = f"a head of half the promised limit ({name})"
        assert found.answers, f"{case} gets no answer: {found}; sent was {shown(sent)}"
        status = found.answers[0].status
        assert status == HTTPStatus.OK, (
            f"{case} gets {status} instead of 200: {found}; sent was {shown(sent)}"
        )


@pytest.mark.promise("http.limits_heads")
def test_head_beyond_the_limit_is_refused(service: HttpService, promised_number: int) -> None:
    sizes = [2 * promised_number * KIB, 16 * promised_number * KIB]
    heads_sent = [head for size in sizes for head in heads.oversized(service.target, size)]

    def fault(name: str, sent: bytes) -> str:
        found = converse(service.target.address, [sent], quiet=ANSWERED_WITHIN, scale=service.scale)
        return "" if _is_refused(found) else f"{name}: {found}; sent was {shown(sent)}"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        faults = list(filter(None, pool.map(lambda head: fault(*head), heads_sent)))
    assert not faults, (
        f"of {len(heads_sent)} heads beyond the promised limit, {len(faults)} are not refused with"
        " 4xx:\n" + "\n".join(faults[:SHOWN])
    )
    _assert_answers(service)


@pytest.mark.promise("http.limits_heads")
def test_endless_head_is_cut(service: HttpService) -> None:
    """Require an end of all that precedes or follows a body."""
    endless = list(heads.endless(service.target))
    with ThreadPoolExecutor(len(endless)) as pool:
        counts = pool.map(lambda head: heads.taken(service.target.address, head), endless)
        faults = [
            f"{head.name}: the server took {count} bytes, and more: {shown(head.begin)}, then"
            f" {shown(head.repeated)} again and again"
            for head, count in zip(endless, counts, strict=True)
            if count is not None
        ]
    assert not faults, (
        f"of {len(endless)} endless requests, the server does not end {len(faults)}:\n"
        + "\n".join(faults)
    )
    _assert_answers(service)


@pytest.mark.promise("http.ends_slow_heads")
def test_slow_head_ends_the_connection(service: HttpService, promised_number: int) -> None:
    limit = promised_number * service.scale
    late = limit + LATE * service.scale
    slow = list(heads.slow(service.target))
    with ThreadPoolExecutor(len(slow)) as pool:
        ends = list(pool.map(lambda head: heads.lasts(service.target.address, head, late), slow))
    faults = [
        f"{head.name}: the connection is open after {late:.0f} s; sent was {shown(head.begin)}"
        for head, lasted in zip(slow, ends, strict=True)
        if lasted is None
    ]
    assert not faults, (
        f"of {len(slow)} heads that come too slowly, the server does not end {len(faults)} within"
        f" {promised_number} s:\n" + "\n".join(faults)
    )


@pytest.mark.promise("http.ends_slow_heads")
def test_head_that_takes_half_as_long_is_answered(
    service: HttpService, promised_number: int
) -> None:
    head = service.target.last
    cut = len(head) // 2
    found = converse(
        service.target.address,
        [head[:cut], head[cut:]],
        quiet=ANSWERED_WITHIN,
        scale=service.scale,
        pause=promised_number / 2,
    )
    assert [answer.status for answer in found.answers] == [HTTPStatus.OK], (
        f"a head that the client sent in {promised_number / 2:.0f} s, half of what is allowed, is"
        f" not answered with 200: {found}"
    )


@pytest.mark.promise("http.keeps_idle_connections")
def test_idle_connections_hinder_nobody(start_service: StartService, promised_number: int) -> None:
    service = start_service()
    with IdleConnections(service.direct, service.scale) as idle:
        idle.open(promised_number)
        assert not idle.refused, (
            f"of {promised_number} connections that do nothing, the server keeps {len(idle)}, and"
            f" then {idle.refused}"
        )
        for _ in range(20):
            _assert_answers(service)
        faults = idle.use()
        assert not faults, f"{len(faults)} idle connections can't be used: {faults[0]}"
        _assert_answers(service)


@pytest.mark.promise("http.answers_head_and_options")
def test_head_is_answered_as_get_without_the_body(service: HttpService) -> None:
    target = service.target
    for path in (target.health, f"{target.health}?a=b", target.absent):
        heads_sent = {
            method: request(f"{method} {path} HTTP/1.1", target.host) for method in ("GET", "HEAD")
        }
        both = {
            method: converse(
                target.address,
                [sent + target.last],
                methods=(method, "GET"),
                quiet=ANSWERED_WITHIN,
                scale=service.scale,
            )
            for method, sent in heads_sent.items()
        }
        got, found = both["GET"], both["HEAD"]
        case = f"a client sends HEAD {path} and, on the same connection, GET {target.health}, and"
        assert len(got.answers) == 2, (
            f"a client sends GET {path} and, on the same connection, GET {target.health}, and gets"
            f" {len(got.answers)} answers: {got}"
        )
        # A body after HEAD's answer would stand where the next answer begins.
        assert len(found.answers) == 2, f"{case} gets {len(found.answers)} answers: {found}"
        assert not found.rest, f"{case} gets bytes that belong to no answer: {found}"
        (get, _), (head, last) = got.answers, found.answers
        assert head.status == get.status, (
            f"HEAD {path} is answered with {head.status}, and GET {path} with {get.status}"
        )
        assert last.status == HTTPStatus.OK, f"{case} gets {last.status} for the second: {found}"
        length_of_get = get.headers.get("content-length")
        size = head.headers.get("content-length", length_of_get)
        assert size == length_of_get, (
            f"HEAD {path} is answered with Content-Length {size}, and GET {path} with"
            f" {length_of_get}"
        )


@pytest.mark.promise("http.answers_head_and_options")
def test_options_names_the_methods_of_a_path(service: HttpService) -> None:
    target = service.target
    for path, methods in (
        (target.health, {"GET", "HEAD", "OPTIONS"}),
        (target.action, {"POST", "OPTIONS"}),
    ):
        sent = request(f"OPTIONS {path} HTTP/1.1", target.host, "Connection: close")
        found = converse(target.address, [sent], quiet=ANSWERED_WITHIN, scale=service.scale)
        assert found.answers, f"OPTIONS {path} gets no answer: {found}"
        answer = found.answers[0]
        assert answer.status in (HTTPStatus.OK, HTTPStatus.NO_CONTENT), (
            f"OPTIONS {path} is answered with {answer.status} instead of 200 or 204: {found}"
        )
        allowed = {method.strip() for method in answer.headers.get("allow", "").split(",")}
        assert allowed >= methods, (
            f"OPTIONS {path} is answered with `Allow` of {sorted(allowed)}, without"
            f" {sorted(methods - allowed)}"
        )
    _assert_answers(service)


@pytest.mark.promise("http.hides_interfaces")
def test_descriptions_of_the_interface_are_not_served(service: HttpService) -> None:
    found = {}
    for path in INTERFACES:
        for method in ("GET", "HEAD", "POST"):
            answer = requests.request(
                method,
                f"{service.server.url}{path}",
                allow_redirects=False,
                timeout=30 * service.scale,
            )
            if answer.status_code < HTTPStatus.BAD_REQUEST:
                found[f"{method} {path}"] = f"{answer.status_code} {answer.text[:80]!r}"
    assert not found, f"the server describes its interface to anybody: {found}"


@pytest.mark.promise("http.bounds_error_logs")
def test_malformed_requests_leave_few_lines(start_service: StartService) -> None:
    service = start_service()
    before = service.log_lines()
    seconds = _send_all(service, [sent for _, sent in heads.malformed(service.target, MALFORMED)])
    added = service.log_lines()[len(before) :]
    assert len(added) <= MOST_LINES + seconds, (
        f"{MALFORMED} malformed requests in {seconds:.0f} s left {len(added)} lines in the server's"
        f" log, such as {added[-1]!r}; {MOST_LINES + seconds:.0f} are allowed"
    )
    assert not any("Traceback" in line for line in added), (
        "malformed requests left a traceback in the server's log:\n" + "\n".join(added[-40:])
    )
    _assert_answers(service)


@pytest.mark.promise("http.bounds_error_logs")
def test_offers_of_other_protocols_leave_few_lines(start_service: StartService) -> None:
    service = start_service()
    before = service.log_lines()
    fields = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    target = service.target
    offer = request(f"GET {target.health} HTTP/1.1", target.host, *fields, "Connection: close")
    seconds = _send_all(service, [offer] * OFFERS)
    added = service.log_lines()[len(before) :]
    # The access log may have a line for each offer.
    assert len(added) <= OFFERS + MOST_LINES + seconds, (
        f"{OFFERS} offers of h2c in {seconds:.0f} s left {len(added)} lines in the server's log,"
        f" such as {added[-1]!r}; {OFFERS + MOST_LINES + seconds:.0f} are allowed"
    )


def _send_all(service: HttpService, sent: Sequence[bytes]) -> float:
    """Send each message on a connection of its own, and return the seconds that it took."""
    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda data: heads.throw(service.target.address, data, service.scale), sent))
    return time.monotonic() - began


def _is_refused(found: WireExchange) -> bool:
    refused = all(400 <= answer.status < 500 for answer in found.answers)
    return refused and (found.closed or bool(found.answers))


def _assert_answers(service: HttpService) -> None:
    """Require an answer to a real request and to a health check."""
    target = service.target
    sent = target.post(length(target.payload), body=target.payload) + target.last
    found = converse(target.address, [sent], quiet=ANSWERED_WITHIN, scale=service.scale)
    statuses = [answer.status for answer in found.answers]
    assert statuses == [HTTPStatus.OK] * 2, (
        f"an ordinary POST {target.action}, then GET {target.health} on the same connection, are"
        f" answered with {statuses} instead of twice 200: {found}"
    )


def _assert_none(faults: Sequence[WireFault], tried: int) -> None:
    desynchronised = sum(fault.desynchronised for fault in faults)
    lines = "\n".join(str(fault) for fault in faults[:SHOWN])
    assert not faults, (
        f"of {tried} requests that clients send by mistake or on purpose, the server answers"
        f" {len(faults)} otherwise than HTTP says; with {desynchronised}, it reads part of a body"
        f" as a request, or goes on where no reading is safe:\n{lines}"
    )
