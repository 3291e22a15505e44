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
    from collections.abc import Callable, Mapping, Sequence

TIME_LIMIT = 60.0
"""Seconds for one request; one that takes longer counts as an error."""
HEADERS = {"Host": "localhost"}
"""Allowed by every server's own defaults."""
MOST = 1_000_000
"""Requests, where the seconds are what bounds a load."""
_NOT_CONNECTED = ("ClientConnectorError", "ConnectionTimeoutError")
_CONNECT_LIMIT = 1.0
_CONNECT_PAUSE = 0.05


@dataclass(frozen=True)
class Call:
    """A request."""

    path: str
    body: Mapping[str, Any] | None = None
    """JSON for a POST; None for a GET."""
    expected: bytes | None = None
    """The only answer that is good, where there is but one."""

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
    answered: int = 0
    """Good answers."""

    @property
    def failed(self) -> int:
        """Requests that got no good answer, of those that were sent.

        A request counts as sent once it has a connection, whatever became of that: the server took
        it, so it owes an answer. Who could not connect knows that nothing was sent, and may ask
        another server: that is among the errors, but is no failed request.
        """
        return sum(count for kind, count in self.errors.items() if kind not in _NOT_CONNECTED)


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


@dataclass(frozen=True)
class Strike:
    """Something that is done to a server while it is under load."""

    act: Callable[[], object]
    after: float
    """Seconds from the first request."""


def many_at_once(
    base: str,
    calls: Sequence[Call],
    *,
    clients: int,
    requests: int = MOST,
    seconds: float = float("inf"),
    strike: Strike | None = None,
    time_limit: float = TIME_LIMIT,
) -> Outcome:
    """Let clients, each with a connection of its own, send requests as fast as they are answered.

    Args:
        base: the server's address, such as `http://172.18.0.4:5000`.
        calls: what requests ask for, in turn.
        clients: how many there are.
        requests: how many they send together.
        seconds: after which no more are sent; those that were get their answers.
        strike: done meanwhile.
        time_limit: seconds for one request.
    """
    return asyncio.run(_many(base, calls, clients, requests, seconds, strike, time_limit))


async def _many(
    base: str,
    calls: Sequence[Call],
    clients: int,
    requests: int,
    seconds: float,
    strike: Strike | None,
    time_limit: float,
) -> Outcome:
    left, end = requests, time.perf_counter() + seconds
    took: list[float] = []
    errors: Counter[str] = Counter()

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal left
        while left > 0 and time.perf_counter() < end:
            left -= 1
            call = calls[left % len(calls)]
            before = time.perf_counter()
            try:
                async with session.request(call.method, call.path, json=call.body) as answer:
                    said = await answer.read()
                    if answer.status != HTTPStatus.OK:
                        errors[str(answer.status)] += 1
                    elif call.expected is not None and said != call.expected:
                        errors["another answer"] += 1
                    else:
                        took.append(time.perf_counter() - before)
            except (aiohttp.ClientError, TimeoutError) as failure:
                kind = type(failure).__name__
                errors[kind] += 1
                if kind in _NOT_CONNECTED:
                    await asyncio.sleep(_CONNECT_PAUSE)

    async def interfere(strike: Strike) -> None:
        await asyncio.sleep(strike.after)
        await asyncio.to_thread(strike.act)

    # A server that was struck down may have left nobody who would refuse.
    connect_limit = _CONNECT_LIMIT if strike else None
    async with aiohttp.ClientSession(
        base,
        connector=aiohttp.TCPConnector(limit=clients),
        headers=HEADERS,
        timeout=aiohttp.ClientTimeout(total=time_limit, sock_connect=connect_limit),
    ) as session:
        before, used = time.perf_counter(), time.process_time()
        work_on = [work(session) for _ in range(clients)]
        await asyncio.gather(*work_on, *([interfere(strike)] if strike else []))
        lasted, used = time.perf_counter() - before, time.process_time() - used
    return Outcome(
        rate=len(took) / lasted,
        median=median(took) if took else float("inf"),
        slowest_percent=quantiles(took, n=100)[-1] if len(took) > 1 else float("inf"),
        errors=dict(errors),
        client_share=used / lasted,
        answered=len(took),
    )
