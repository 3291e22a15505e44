"""A crowd of connections to one server: most are idle, some send requests all the time.

Health checks are sent by a process of its own: their times must not contain what the crowd costs
the one that makes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from statistics import quantiles
from typing import TYPE_CHECKING

from bench import ROOT
from seatrial.wire.connections import allow_files
from seatrial.wire.exchange import read_answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seatrial.wire.exchange import Address

SECONDS = 15.0
"""In which active connections send requests, and health is checked."""
ANSWER_LIMIT = 30.0
"""Seconds."""
OPENING = 100
"""Connections that are opened at a time."""


@dataclass
class Crowd:
    """What came of it."""

    open: int = 0
    """Idle connections that got the answer to their first request."""
    lost: int = 0
    """Connections, idle or active, that ended or stayed silent without an answer."""
    statuses: Counter[int] = field(default_factory=Counter)
    """Of the active connections' answers."""
    pings: list[float] = field(default_factory=list)
    """Seconds of each health check; one without an answer counts as its time limit."""

    @property
    def slowest_ping(self) -> float:
        """The 99th percentile, in milliseconds."""
        return slowest_percent(self.pings) * 1000


def slowest_percent(times: list[float]) -> float:
    """The 99th percentile; infinite where there are hardly any."""
    return quantiles(times, n=100)[-1] if len(times) > 1 else float("inf")


@dataclass(frozen=True)
class Plan:
    """How many connections there are, and what they ask for."""

    address: Address
    idle: int
    """Connections that send `first`, and nothing more."""
    active: int
    """Connections that send `request` all the time."""
    first: bytes
    request: bytes
    path: str
    """Where health is checked."""
    pause: float
    """Seconds, on the average, between two requests of one active connection."""


def gather(plan: Plan, look: Callable[[], None]) -> Crowd:
    """Open connections, keep them, and send requests on some of them.

    Args:
        plan: which connections.
        look: called while all of them are open.

    Raises:
        UserError: this process may not have as many.
    """
    allow_files(plan.idle + plan.active)
    return asyncio.run(_gather(plan, look))


async def _gather(plan: Plan, look: Callable[[], None]) -> Crowd:
    crowd = Crowd()
    gate = asyncio.Semaphore(OPENING)
    kept: list[_Connection] = []

    async def settle() -> None:
        async with gate:
            connection = await _Connection.open(plan.address)
            if connection and await connection.ask(plan.first) == HTTPStatus.OK:
                kept.append(connection)
                crowd.open += 1
            else:
                crowd.lost += 1

    async def work(until: float) -> None:
        await asyncio.sleep(random.uniform(0, plan.pause))
        connection = await _Connection.open(plan.address)
        while time.monotonic() < until:
            status = await connection.ask(plan.request) if connection else None
            if status is None:
                crowd.lost += 1
                return
            crowd.statuses[status] += 1
            await asyncio.sleep(random.uniform(0, 2 * plan.pause))

    await asyncio.gather(*(settle() for _ in range(plan.idle)))
    with _pinging(plan.address, plan.path) as pinging:
        until = time.monotonic() + SECONDS
        workers = [asyncio.create_task(work(until)) for _ in range(plan.active)]
        await asyncio.sleep(SECONDS / 2)
        await asyncio.to_thread(look)
        await asyncio.gather(*workers)
        printed, _ = await asyncio.to_thread(pinging.communicate)
    crowd.pings = json.loads(printed)
    for connection in kept:
        # One that still answers was not lost meanwhile.
        connection.close()
    return crowd


@contextlib.contextmanager
def _pinging(address: Address, path: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench.pinging", address.host, str(address.port), path]
    with subprocess.Popen(
        [*command, str(SECONDS)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@dataclass(frozen=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, address: Address) -> _Connection | None:
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                return cls(*await asyncio.open_connection(*address))
        except OSError:  # TimeoutError is one
            return None

    async def ask(self, request: bytes) -> int | None:
        """Send a request, and give back the status of its answer; None for none."""
        received = b""
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                self.writer.write(request)
                while not (answers := read_answers(received)[0]):
                    if not (piece := await self.reader.read(1 << 16)):
                        return None
                    received += piece
        except OSError:
            return None
        return answers[0].status

    def close(self) -> None:
        self.writer.close()
