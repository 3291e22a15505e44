"""The real MLflow client, pointed at a server under test."""

from __future__ import annotations

import re
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import mlflow
import pytest
from mlflow import MlflowClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow.store.entities import PagedList

    from seatrial.stack.server import MLflowServer

Found = TypeVar("Found")


@contextmanager
def connected_client(server: MLflowServer, variables: Mapping[str, str]) -> Iterator[MlflowClient]:
    """Point MLflow's client, and the fluent API of this process, at `server`.

    A request that fails is not tried again: a fault that a second try hides is still a fault.

    Args:
        server: what the client talks to.
        variables: of the client's environment, beside those that the server asks for.
    """
    environment = {
        **server.client_environment(),
        "MLFLOW_TRACKING_URI": server.url,
        "MLFLOW_REGISTRY_URI": server.url,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(60 * server.image.scale),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        **variables,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        mlflow.set_tracking_uri(server.url)
        mlflow.set_registry_uri(server.url)
        yield MlflowClient(server.url, server.url)


def unique_name(test: str) -> str:
    """Make up a name that no other test uses, and that begins with the test's own."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "-", test).strip("-")
    return f"{plain}-{secrets.token_hex(3)}"


def pages_of(search: Callable[[str | None], PagedList[Found]]) -> list[list[Found]]:
    """Follow the tokens of a search, and return all of its pages.

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
