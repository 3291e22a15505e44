"""Fixtures that make clients and names, in a pytest of their own, without an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repository import ROOT

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]

TESTS = """
import os
from types import SimpleNamespace

import mlflow
import pytest

BEFORE = dict(os.environ)

def server(port, **environment):
    return SimpleNamespace(
        url=f"http://127.0.0.1:{port}",
        image=SimpleNamespace(scale=2),
        client_environment=lambda: environment,
    )

def test_client_has_its_own_environment(seatrial_client_for):
    client = seatrial_client_for(server(1, AWS_REGION="sea"), MLFLOW_TRACKING_USERNAME="mate")
    assert client.tracking_uri == mlflow.get_tracking_uri() == "http://127.0.0.1:1"
    assert os.environ["AWS_REGION"] == "sea"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "mate"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "120"

def test_next_client_has_nothing_of_the_one_before(seatrial_client_for):
    seatrial_client_for(server(1, AWS_REGION="sea"), MLFLOW_TRACKING_USERNAME="mate")
    client = seatrial_client_for(server(2))
    assert client.tracking_uri == mlflow.get_tracking_uri() == "http://127.0.0.1:2"
    assert not {"AWS_REGION", "MLFLOW_TRACKING_USERNAME"} & os.environ.keys()

def test_environment_is_as_before():
    changed = set(os.environ.items()) ^ set(BEFORE.items())
    assert {name for name, _ in changed} <= {"PYTEST_CURRENT_TEST"}

@pytest.mark.parametrize("word", ["a b", "/"])
def test_names(seatrial_new_name, word):
    first, second = seatrial_new_name(), seatrial_new_name()
    assert first != second
    assert first.startswith("test_names")
    assert not set(first) & set(" /[]")
"""


def test_fixtures_make_clients_and_names(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("AWS_REGION", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeconftest("pytest_plugins = ['seatrial.trial.plugin']")
    pytester.makepyfile(TESTS)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=5)
