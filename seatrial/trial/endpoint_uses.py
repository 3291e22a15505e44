"""Requests of a run, as the tests' process sends them: paths, and the fields of both directions.

Only requests that were answered without an error count: what a server refuses has not been tried.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

JSON_TYPE = "application/json"


class EndpointUses:
    """Fields that were sent and received, by method and path, such as `GET /api/2.0/...`."""

    def __init__(self) -> None:
        self._fields: dict[str, tuple[set[str], set[str]]] = {}

    def note(
        self, request: requests.PreparedRequest, answer: requests.Response, content: bytes
    ) -> None:
        """Take a request.

        Args:
            request: as it was sent.
            answer: of the server.
            content: of the answer; empty where it is somebody else's to read.
        """
        address = urlsplit(request.url or "")
        use = f"{request.method} {unquote(address.path)}"
        sent, received = self._fields.setdefault(use, (set(), set()))
        sent.update(parse_qs(address.query))
        sent.update(_fields(request.headers, request.body))
        received.update(_fields(answer.headers, content))

    def add(self, uses: Mapping[str, tuple[list[str], list[str]]]) -> None:
        """Take what another process has noted: its `as_json`."""
        for use, (sent, received) in uses.items():
            known = self._fields.setdefault(use, (set(), set()))
            known[0].update(sent)
            known[1].update(received)

    def as_json(self) -> dict[str, tuple[list[str], list[str]]]:
        """Everything that was noted: sent and received fields by method and path."""
        return {use: (sorted(sent), sorted(got)) for use, (sent, got) in self._fields.items()}


@contextmanager
def recording(uses: EndpointUses) -> Iterator[None]:
    """Note what `requests` sends meanwhile, which is also how MLflow's client sends."""
    send = requests.Session.send

    def noted(
        session: requests.Session,
        request: requests.PreparedRequest,
        **options: Any,  # noqa: ANN401
    ) -> requests.Response:
        answer = send(session, request, **options)
        if answer.status_code < HTTPStatus.BAD_REQUEST:
            # A stream belongs to whoever asked for it.
            uses.note(request, answer, b"" if options.get("stream") else answer.content)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests.Session, "send", noted)
        yield


def _fields(headers: Mapping[str, str], body: object) -> set[str]:
    """Names of the fields of a JSON document, with dots between the levels; lists add none."""
    if not headers.get("Content-Type", "").startswith(JSON_TYPE):
        return set()
    if not isinstance(body, (str, bytes)) or not body:
        return set()
    try:
        content = json.loads(body)
    except ValueError:  # a test of bad input, which the server took
        return set()
    # Some clients of MLflow send a document in a string.
    return set(_paths(json.loads(content) if isinstance(content, str) else content, ""))


def _paths(value: object, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _paths(item, path)
    elif isinstance(value, dict):
        for name, item in value.items():
            below = f"{path}.{name}" if path else name
            yield below
            yield from _paths(item, below)
