"""What servers answer to the requests of one thread, before any client has read it.

A client leaves out much of what it is answered: what is compared is the answer itself as well.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNCOMPARED = ("/server-info", "/version", "/health")
"""What clients ask once for each server, and not again for the next sequence."""
_noted: ContextVar[list[HttpAnswer] | None] = ContextVar("noted", default=None)
_lock = threading.Lock()


@dataclass
class HttpAnswer:
    """One answer."""

    method: str
    """Of the request."""
    path: str
    status: int
    body: Any
    """JSON; the type of what is none."""

    def as_data(self) -> dict[str, Any]:
        """What is compared: the request is the same on both sides."""
        return {"status": self.status, "body": self.body}


@contextmanager
def noting() -> Iterator[list[HttpAnswer]]:
    """Note what is answered to `requests` in this thread, which is also how MLflow's client asks.

    Yields:
        the answers, in their order.
    """
    answers: list[HttpAnswer] = []
    token = _noted.set(answers)
    try:
        with _Patch():
            yield answers
    finally:
        _noted.reset(token)


class _Patch:
    """Takes the place of `Session.send` as long as any thread notes: there is no hook for all."""

    _users = 0
    _send: Any = None

    def __enter__(self) -> None:
        with _lock:
            if not _Patch._users:
                _Patch._send = requests.Session.send
                requests.Session.send = _noted_send(_Patch._send)  # type: ignore[method-assign]
            _Patch._users += 1

    def __exit__(self, *_: object) -> None:
        with _lock:
            _Patch._users -= 1
            if not _Patch._users:
                requests.Session.send = _Patch._send  # type: ignore[method-assign]


def _noted_send(send: Any) -> Any:  # noqa: ANN401 - a method of requests
    def noted(
        session: requests.Session,
        request: requests.PreparedRequest,
        **options: Any,  # noqa: ANN401
    ) -> requests.Response:
        answer: requests.Response = send(session, request, **options)
        answers, path = _noted.get(), urlsplit(request.url or "").path
        if answers is not None and not path.endswith(_UNCOMPARED):
            body = "" if options.get("stream") else _body(answer)
            answers.append(HttpAnswer(request.method or "", path, answer.status_code, body))
        return answer

    return noted


def _body(answer: requests.Response) -> Any:  # noqa: ANN401 - whatever JSON holds
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    try:
        return answer.json()
    except requests.JSONDecodeError:
        return f"<{kind}>"
