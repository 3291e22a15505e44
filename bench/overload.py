"""Requests at a fixed rate, whether or not the server keeps up."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp

from bench.figures import percentile_99
from bench.load import HEADERS

if TYPE_CHECKING:
    from bench.load import Call

TIME_LIMIT = 30.0
"""Seconds for one request; one that takes longer counts as an error."""


@dataclass
class OverloadResult:
    """Answers to requests at a fixed rate."""

    accepted: list[float] = field(default_factory=list)
    """Seconds of each answer 200."""
    shed: list[float] = field(default_factory=list)
    """Seconds of each answer 503."""
    without_retry_after: int = 0
    """Answers 503 that lack Retry-After."""
    errors: Counter[str] = field(default_factory=Counter)
    """Other answers by status, and failures by exception."""

    @property
    def sent(self) -> int:
        """Number of requests."""
        return len(self.accepted) + len(self.shed) + self.errors.total()

    @property
    def slowest_accepted(self) -> float:
        """99th percentile of answers 200, in milliseconds."""
        return percentile_99(self.accepted) * 1000

    @property
    def slowest_shed(self) -> float:
        """99th percentile of answers 503, in milliseconds; infinite with fewer than two."""
        return percentile_99(self.shed) * 1000

    def __str__(self) -> str:
        errors = ", ".join(f"{name}: {count}" for name, count in sorted(self.errors.items()))
        return (
            f"of {self.sent} requests {len(self.accepted)} were answered, {len(self.shed)} got 503"
            f" ({self.without_retry_after} without Retry-After), {errors or 'no error'}"
        )


def send_at_rate(base: str, call: Call, *, rate: float, seconds: float) -> OverloadResult:
    """Send requests at a fixed rate.

    Args:
        base: the server's address.
        call: the request.
        rate: requests in a second.
        seconds: how long requests are sent; the call returns after their answers.
    """
    return asyncio.run(_send_at_rate(base, call, rate, seconds))


async def _send_at_rate(base: str, call: Call, rate: float, seconds: float) -> OverloadResult:
    result = OverloadResult()

    async def send(session: aiohttp.ClientSession) -> None:
        before = time.perf_counter()
        try:
            async with session.request(call.method, call.path, json=call.body) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError) as failure:
            result.errors[type(failure).__name__] += 1
            return
        took = time.perf_counter() - before
        if answer.status == HTTPStatus.OK:
            result.accepted.append(took)
        elif answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            result.shed.append(took)
            result.without_retry_after += "Retry-After" not in answer.headers
        else:
            result.errors[str(answer.status)] += 1

    async with aiohttp.ClientSession(
        base,
        connector=aiohttp.TCPConnector(limit=0),
        headers=HEADERS,
        timeout=aiohttp.ClientTimeout(total=TIME_LIMIT),
    ) as session:
        begin = time.monotonic()
        tasks = []
        for number in range(int(rate * seconds)):
            if (wait := begin + number / rate - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(send(session)))
        await asyncio.gather(*tasks)
    return result
