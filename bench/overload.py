"""Requests at a fixed rate, whether or not the server keeps up."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp

from bench.crowd import slowest_percent
from bench.load import HEADERS

if TYPE_CHECKING:
    from bench.load import Call

TIME_LIMIT = 30.0
"""Seconds for one request; one that takes longer counts as an error."""


@dataclass
class Flow:
    """What came of it."""

    accepted: list[float] = field(default_factory=list)
    """Seconds of each answer 200."""
    shed: list[float] = field(default_factory=list)
    """Seconds of each answer 503."""
    bare: int = 0
    """Of those, without Retry-After."""
    errors: Counter[str] = field(default_factory=Counter)
    """Everything else, by kind."""

    @property
    def sent(self) -> int:
        """All requests."""
        return len(self.accepted) + len(self.shed) + self.errors.total()

    @property
    def slowest_accepted(self) -> float:
        """The 99th percentile, in milliseconds."""
        return slowest_percent(self.accepted) * 1000

    @property
    def slowest_shed(self) -> float:
        """The 99th percentile, in milliseconds; infinite where hardly any was shed."""
        return slowest_percent(self.shed) * 1000

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind}: {count}" for kind, count in sorted(self.errors.items()))
        return (
            f"of {self.sent} requests {len(self.accepted)} were answered, {len(self.shed)} got 503"
            f" ({self.bare} without Retry-After), {kinds or 'no error'}"
        )


def pour(base: str, call: Call, *, rate: float, seconds: float) -> Flow:
    """Send requests at a rate.

    Args:
        base: the server's address.
        call: what each asks for.
        rate: requests in a second.
        seconds: how long they are sent; their answers are waited for.
    """
    return asyncio.run(_pour(base, call, rate, seconds))


async def _pour(base: str, call: Call, rate: float, seconds: float) -> Flow:
    flow = Flow()

    async def send(session: aiohttp.ClientSession) -> None:
        before = time.perf_counter()
        try:
            async with session.request(call.method, call.path, json=call.body) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError) as failure:
            flow.errors[type(failure).__name__] += 1
            return
        took = time.perf_counter() - before
        if answer.status == HTTPStatus.OK:
            flow.accepted.append(took)
        elif answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            flow.shed.append(took)
            flow.bare += "Retry-After" not in answer.headers
        else:
            flow.errors[str(answer.status)] += 1

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
    return flow
