"""The real MLflow client, pointed at a server under test."""

from __future__ import annotations

import re
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import mlflow
from mlflow import MlflowClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest
    from mlflow.store.entities import PagedList

    from seatrial.stack.server import Server

Found = TypeVar("Found")


@contextmanager
def client_of(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """The client of `server`; the fluent API of this process talks to it as well.

    A request that fails is not tried again: a fault that a second try hides is still a fault.
    """
    environment = {
        **server.client_environment(),
        "MLFLOW_TRACKING_URI": server.url,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(60 * server.image.scale),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    with monkeypatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        mlflow.set_tracking_uri(server.url)
        mlflow.set_registry_uri(server.url)
        yield MlflowClient(server.url, server.url)


def fresh_name(request: pytest.FixtureRequest) -> str:
    """A name for an experiment or a model that no other test uses, and that tells whose it is."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "-", request.node.name).strip("-")
    return f"{plain}-{secrets.token_hex(3)}"


def pages_of(search: Callable[[str | None], PagedList[Found]]) -> list[list[Found]]:
    """Every page of a search, asked for with the token of the page before it.

    Raises:
        AssertionError: a token comes for the second time: the search would never end.
    """
    pages: list[list[Found]] = []
    tokens: list[str | None] = [None]
    while len(pages) < len(tokens):
        page = search(tokens[-1])
        pages.append(list(page))
        if page.token:
            assert page.token not in tokens, f"page {len(pages)} leads back to an earlier page"
            tokens.append(page.token)
    return pages
