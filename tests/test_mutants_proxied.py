"""Faults of a proxy: what each changes, and where it changes nothing."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest

from seatrial.mutants.proxied.faults import (
    CACHED,
    CHANGES,
    FIRST_PAGE,
    PRAISED,
    ProxiedFault,
    ProxiedMutant,
    mutants,
)
from seatrial.mutants.proxied.proxy import Exchange
from seatrial.mutants.proxied.try_proxied import explained
from seatrial.trial.endpoints import Endpoint, Router

SEARCH = "/api/2.0/mlflow/runs/search"


@pytest.fixture(scope="module")
def router() -> Router:
    """The endpoints of MLflow."""
    return Router()


def _exchange(answer: Any, status: int = 200, **body: Any) -> Exchange:
    return Exchange("http://server", "POST", SEARCH, [], body, answer, status)


def _fault(router: Router, change: str, direction: str = "", field: str = "") -> ProxiedFault:
    return ProxiedFault(
        ProxiedMutant(router.endpoints[f"POST {SEARCH}"], change, direction, field), router
    )


@pytest.mark.parametrize(
    ("change", "value", "changed"),
    [
        ("emptied", "a", ""),
        ("emptied", 5, 0),
        ("emptied", [1], []),
        ("in lower case", "FAILED", "failed"),
        ("truncated", "abc", "ab"),
        ("truncated", [1, 2], [1]),
        ("one more", 4, 5),
        ("one more", "-5", "-4"),
        ("one more", True, False),
        ("rounded", 0.7, 1.0),
        ("rounded", float("inf"), float("inf")),
        ("in reverse", [1, 2], [2, 1]),
        ("with its last item twice", [1, 2], [1, 2, 2]),
    ],
)
def test_change_of_a_value(change: str, value: object, changed: object) -> None:
    assert CHANGES[change](value) == changed


def test_field_of_every_item_is_changed(router: Router) -> None:
    fault = _fault(router, "dropped", "received", "runs.info.status")
    exchange = _exchange({"runs": [{"info": {"status": "FAILED", "a": 1}}, {"info": {"a": 2}}]})
    fault.after(exchange)
    assert exchange.answer == {"runs": [{"info": {"a": 1}}, {"info": {"a": 2}}]}
    assert fault.applied


def test_parameter_is_ignored(router: Router) -> None:
    exchange = _exchange(None, filter="a = 1", max_results=3)
    _fault(router, "dropped", "sent", "filter").before(exchange)
    assert exchange.body == {"max_results": 3}


def test_first_page_comes_again(router: Router) -> None:
    exchange = _exchange(None, page_token="second")
    _fault(router, FIRST_PAGE).before(exchange)
    assert exchange.body == {}


def test_answer_comes_from_a_cache(router: Router) -> None:
    fault = _fault(router, CACHED)
    first, second = _exchange({"runs": [1]}), _exchange({"runs": [2]})
    fault.after(first)
    fault.after(second)
    assert second.answer == {"runs": [1]}


def test_error_is_called_a_success(router: Router) -> None:
    exchange = _exchange({"error_code": "NOT_FOUND"}, status=404)
    _fault(router, PRAISED).after(exchange)
    assert (exchange.status, exchange.answer) == (200, {})


def test_other_endpoints_stay_as_they_are(router: Router) -> None:
    exchange = _exchange({"runs": [{"info": {"status": "FAILED"}}]})
    exchange.path = "/api/2.0/mlflow/runs/create"
    fault = _fault(router, "in lower case", "received", "runs.info.status")
    fault.after(exchange)
    assert exchange.answer == {"runs": [{"info": {"status": "FAILED"}}]}
    assert not fault.applied


def test_whether_a_fault_applies_is_asked_without_changing_anything(router: Router) -> None:
    recorded = [_exchange({"runs": [{"info": {"status": "FAILED"}}]})]
    assert _fault(router, "truncated", "received", "runs.info.status").changes(recorded)
    assert not _fault(router, "rounded", "received", "runs.info.status").changes(recorded)
    assert recorded[0].answer == {"runs": [{"info": {"status": "FAILED"}}]}


def test_mutants_are_made_from_the_definition() -> None:
    endpoint = Endpoint("GET", "/a", frozenset({"page_token"}), frozenset({"b", "b.c"}))
    found = [str(mutant) for mutant in mutants([endpoint])]
    assert len(found) == len(set(found)) == 3 + 3 * len(CHANGES)
    assert "GET /a: b.c received in lower case" in found


def test_thousands_are_made(router: Router) -> None:
    assert sum(1 for _ in mutants(router.endpoints.values())) > 20_000


def test_what_is_explained_is_a_mutant(router: Router) -> None:
    names = [str(mutant) for mutant in mutants(router.endpoints.values())]
    for form, reason in explained().items():
        assert reason, form
        assert any(fnmatchcase(name, form) for name in names), form
