"""Many connections to one server: most are idle, some send requests all the time.

A separate process sends the health checks, so that their times do not contain the CPU time that
the connections cost this process.
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
from typing import TYPE_CHECKING

from bench import ROOT
from bench.figures import percentile_99
from seatrial.wire.exchange import read_answers
from seatrial.wire.idle_connections import allow_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seatrial.wire.exchange import HTTPAddress

SECONDS = 15.0
"""Time in which active connections send requests and health is checked."""
ANSWER_LIMIT = 30.0
"""Seconds until a request counts as lost."""
OPENING = 100
"""Connections that are opened concurrently."""


@dataclass
class ConnectionResult:
    """Answers and losses of all connections, and times of health checks."""

    open: int = 0
    """Idle connections that got the answer to their first request."""
    lost: int = 0
    """Connections, idle or active, that ended or stayed silent without an answer."""
    statuses: Counter[int] = field(default_factory=Counter)
    """Answers on active connections, by status."""
    pings: list[float] = field(default_factory=list)
    """Seconds of each health check; the time limit for one without an answer."""

    @property
    def slowest_ping(self) -> float:
        """99th percentile of the health checks, in milliseconds."""
        return percentile_99(self.pings) * 1000


@dataclass(frozen=True)
class ConnectionPlan:
    """Numbers of connections, and their requests."""

    address: HTTPAddress
    idle: int
    """Connections that send `first`, and nothing more."""
    active: int
    """Connections that send `request` all the time."""
    first: bytes
    request: bytes
    path: str
    """Path of the health check."""
    pause: float
    """Mean seconds between two requests of an active connection."""


def run(plan: ConnectionPlan, look: Callable[[], None]) -> ConnectionResult:
    """Open connections, keep them, and send requests on some of them.

    Args:
        plan: which connections.
        look: called while all of them are open.

    Raises:
        UserError: this process may not have as many.
    """
    allow_files(plan.idle + plan.active)
    return asyncio.run(_run(plan, look))


async def _run(plan: ConnectionPlan, look: Callable[[], None]) -> ConnectionResult:
    result = ConnectionResult()
    gate = asyncio.Semaphore(OPENING)
    kept: list[_Connection] = []

    async def settle() -> None:
        async with gate:
            connection = await _Connection.open(plan.address)
            if connection and await connection.ask(plan.first) == HTTPStatus.OK:
                kept.append(connection)
                result.open += 1
            else:
                result.lost += 1

    async def work(until: float) -> None:
        await asyncio.sleep(random.uniform(0, plan.pause))
        connection = await _Connection.open(plan.address)
        while time.monotonic() < until:
            status = await connection.ask(plan.request) if connection else None
            if status is None:
                result.lost += 1
                return
            result.statuses[status] += 1
            await asyncio.sleep(random.uniform(0, 2 * plan.pause))

    await asyncio.gather(*(settle() for _ in range(plan.idle)))
    with _pinging(plan.address, plan.path) as pinging:
        until = time.monotonic() + SECONDS
        workers = [asyncio.create_task(work(until)) for _ in range(plan.active)]
        await asyncio.sleep(SECONDS / 2)
        await asyncio.to_thread(look)
        await asyncio.gather(*workers)
        printed, _ = await asyncio.to_thread(pinging.communicate)
    result.pings = json.loads(printed)
    for connection in kept:
        connection.close()
    return result


@contextlib.contextmanager
def _pinging(address: HTTPAddress, path: str) -> Iterator[subprocess.Popen[str]]:
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
    async def open(cls, address: HTTPAddress) -> _Connection | None:
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                return cls(*await asyncio.open_connection(*address))
        except OSError:  # TimeoutError is one
            return None

    async def ask(self, request: bytes) -> int | None:
        """Send a request and return the status of its answer; None without an answer."""
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
