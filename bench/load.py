"""Requests to a server: one after the other on one connection, and many clients at once.

The client shares the machine with the server. How much of a core it took is kept with each result:
well below one, it was not what the requests waited for.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import aiohttp

from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIME_LIMIT = 60.0
"""Seconds for one request; one that takes longer counts as an error."""
HEADERS = {"Host": "localhost"}
"""Allowed by every server's own defaults."""


@dataclass(frozen=True)
class Call:
    """A request."""

    path: str
    body: Mapping[str, Any] | None = None
    """JSON for a POST; None for a GET."""

    @property
    def method(self) -> str:
        """The HTTP method."""
        return "GET" if self.body is None else "POST"


@dataclass(frozen=True)
class Outcome:
    """What came of many clients at once."""

    rate: float
    """Good answers in a second."""
    median: float
    """Seconds from a request to its answer."""
    slowest_percent: float
    """The 99th percentile of the same."""
    errors: Mapping[str, int]
    """How many answers were not 200, or none at all, by kind."""
    client_share: float
    """CPU time of the client in a second: of one core."""


def one_after_the_other(address: str, port: int, call: Call, *, warm: int, count: int) -> float:
    """Send requests on one connection that stays open.

    Args:
        address: of the server.
        port: of the server.
        call: what each request asks for.
        warm: requests before those that count.
        count: requests that count.

    Returns:
        The median, in milliseconds from request to whole answer.

    Raises:
        UserError: an answer was not 200.
    """
    took = []
    body = None if call.body is None else json.dumps(call.body).encode()
    headers = HEADERS if body is None else {**HEADERS, "Content-Type": "application/json"}
    with closing(HTTPConnection(address, port, timeout=TIME_LIMIT)) as connection:
        for _ in range(warm + count):
            before = time.perf_counter()
            try:
                connection.request(call.method, call.path, body, headers)
                answer = connection.getresponse()
                said = answer.read()
            except (OSError, HTTPException) as error:
                raise UserError(f"{call.method} {call.path} was not answered: {error}") from error
            took.append(time.perf_counter() - before)
            if answer.status != HTTPStatus.OK:
                raise UserError(
                    f"{call.method} {call.path} was answered with {answer.status}: {said[:200]!r}"
                )
    return median(took[warm:]) * 1000


def many_at_once(base: str, calls: Sequence[Call], *, clients: int, requests: int) -> Outcome:
    """Let clients, each with a connection of its own, send requests as fast as they are answered.

    Args:
        base: the server's address, such as `http://172.18.0.4:5000`.
        calls: what requests ask for, in turn.
        clients: how many there are.
        requests: how many they send together.
    """
    return asyncio.run(_many(base, calls, clients, requests))


async def _many(base: str, calls: Sequence[Call], clients: int, requests: int) -> Outcome:
    left = requests
    took: list[float] = []
    errors: Counter[str] = Counter()

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            call = calls[left % len(calls)]
            before = time.perf_counter()
            try:
                async with session.request(call.method, call.path, json=call.body) as answer:
                    await answer.read()
                    if answer.status == HTTPStatus.OK:
                        took.append(time.perf_counter() - before)
                    else:
                        errors[str(answer.status)] += 1
            except (aiohttp.ClientError, TimeoutError) as failure:
                errors[type(failure).__name__] += 1

    async with aiohttp.ClientSession(
        base,
        connector=aiohttp.TCPConnector(limit=clients),
        headers=HEADERS,
        timeout=aiohttp.ClientTimeout(total=TIME_LIMIT),
    ) as session:
        before, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work(session) for _ in range(clients)))
        seconds, used = time.perf_counter() - before, time.process_time() - used
    return Outcome(
        rate=len(took) / seconds,
        median=median(took) if took else float("inf"),
        slowest_percent=quantiles(took, n=100)[-1] if len(took) > 1 else float("inf"),
        errors=dict(errors),
        client_share=used / seconds,
    )
