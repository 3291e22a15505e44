"""Requests to a server: sequential on a single connection, or from many clients at once.

The client shares the machine with the server. Each result has the client's CPU time in a second:
well below one core, the client was not the bottleneck.
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
from statistics import median
from typing import TYPE_CHECKING, Any

import aiohttp

from bench.figures import percentile_99
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TIME_LIMIT = 60.0
"""Seconds for one request; one that takes longer counts as an error."""
HEADERS = {"Host": "localhost"}
"""Allowed by every server's own defaults."""
MOST = 1_000_000
"""Requests of a load that its seconds bound."""
_NOT_CONNECTED = ("ClientConnectorError", "ConnectionTimeoutError")
_CONNECT_LIMIT = 1.0
_CONNECT_PAUSE = 0.05


@dataclass(frozen=True)
class Call:
    """Request to a server."""

    path: str
    body: Mapping[str, Any] | None = None
    """JSON for a POST; None for a GET."""
    expected: bytes | None = None
    """Body of the only good answer; None accepts any."""

    @property
    def method(self) -> str:
        """The HTTP method."""
        return "GET" if self.body is None else "POST"


@dataclass(frozen=True)
class LoadResult:
    """Answers and latencies of many clients at once."""

    rate: float
    """Good answers per second."""
    median: float
    """Seconds from a request to its answer."""
    slowest_percent: float
    """99th percentile of the same."""
    errors: Mapping[str, int]
    """Requests without a good answer, by status or by exception."""
    client_share: float
    """CPU time of the client per second, as a share of one core."""
    answered: int = 0
    """Good answers."""

    @property
    def failed(self) -> int:
        """Requests that were sent and got no good answer.

        A request counts as sent once it has a connection. A client that could not connect knows
        that nothing was sent and may ask another server: an error, but no failed request.
        """
        return sum(count for name, count in self.errors.items() if name not in _NOT_CONNECTED)


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
                text = answer.read()
            except (OSError, HTTPException) as error:
                raise UserError(f"{call.method} {call.path} was not answered: {error}") from error
            took.append(time.perf_counter() - before)
            if answer.status != HTTPStatus.OK:
                raise UserError(
                    f"{call.method} {call.path} was answered with {answer.status}: {text[:200]!r}"
                )
    return median(took[warm:]) * 1000


@dataclass(frozen=True)
class FaultInjector:
    """A fault that a server under load gets once."""

    inject: Callable[[], object]
    after: float
    """Seconds from the first request."""


def many_at_once(
    base: str,
    calls: Sequence[Call],
    *,
    clients: int,
    requests: int = MOST,
    seconds: float = float("inf"),
    injector: FaultInjector | None = None,
    time_limit: float = TIME_LIMIT,
) -> LoadResult:
    """Let clients send requests, each on its own connection and without a pause.

    Args:
        base: the server's address, such as `http://172.18.0.4:5000`.
        calls: what requests ask for, in turn.
        clients: how many there are.
        requests: how many they send together.
        seconds: after which no more are sent; those that were get their answers.
        injector: injects a fault meanwhile.
        time_limit: seconds for one request.
    """
    return asyncio.run(_many(base, calls, clients, requests, seconds, injector, time_limit))


async def _many(
    base: str,
    calls: Sequence[Call],
    clients: int,
    requests: int,
    seconds: float,
    injector: FaultInjector | None,
    time_limit: float,
) -> LoadResult:
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
                    content = await answer.read()
                    if answer.status != HTTPStatus.OK:
                        errors[str(answer.status)] += 1
                    elif call.expected is not None and content != call.expected:
                        errors["another answer"] += 1
                    else:
                        took.append(time.perf_counter() - before)
            except (aiohttp.ClientError, TimeoutError) as failure:
                name = type(failure).__name__
                errors[name] += 1
                if name in _NOT_CONNECTED:
                    await asyncio.sleep(_CONNECT_PAUSE)

    async def interfere(injector: FaultInjector) -> None:
        await asyncio.sleep(injector.after)
        await asyncio.to_thread(injector.inject)

    # A container that has ended refuses no connections, so an attempt to connect needs a limit.
    connect_limit = _CONNECT_LIMIT if injector else None
    async with aiohttp.ClientSession(
        base,
        connector=aiohttp.TCPConnector(limit=clients),
        headers=HEADERS,
        timeout=aiohttp.ClientTimeout(total=time_limit, sock_connect=connect_limit),
    ) as session:
        before, used = time.perf_counter(), time.process_time()
        work_on = [work(session) for _ in range(clients)]
        await asyncio.gather(*work_on, *([interfere(injector)] if injector else []))
        lasted, used = time.perf_counter() - before, time.process_time() - used
    return LoadResult(
        rate=len(took) / lasted,
        median=median(took) if took else float("inf"),
        slowest_percent=percentile_99(took),
        errors=dict(errors),
        client_share=used / lasted,
        answered=len(took),
    )
