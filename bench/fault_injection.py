"""Faults of a model server under load, and the requests that fail because of them.

A request has failed if it was sent on an established connection and did not get the whole, right
prediction with 200: a reset connection, a truncated answer and 502 of a proxy are all lost
predictions. A refused connection is no failure: a server that is told to stop must stop accepting,
and a client that could not connect knows that nothing was sent. Requests go to the container's own
address, because the engine's proxy accepts connections for a container that has ended.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import requests

from bench import load
from bench.load import FaultInjector
from seatrial.engine.waiting import ContainerError, until
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.candidate import Running
    from bench.load import Call, LoadResult

CLIENTS = 8
SECONDS = 6.0
AFTER = 1.5
_TIME_LIMIT = 20.0
_READY_LIMIT = 60.0
_LIBRARY = "/numpy/"
"""Library that only processes with a model, and their parents, have mapped."""
_STARTED = b"Application startup complete"
_GAUGE = re.compile(r"^mlflow_model_workers_ready (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class InjectedFault:
    """A fault, and how to inject it."""

    name: str
    prepare: Callable[[Running], Callable[[], object]]
    """Finds the target on an idle server; returns the function that injects the fault."""


def _told_to_stop(running: Running) -> Callable[[], object]:
    return partial(running.container.kill, signal.SIGTERM)


def _worker_killed(running: Running) -> Callable[[], object]:
    workers = running.holders(_LIBRARY)
    if not workers:
        raise UserError(f"{running.candidate.name}: no process holds the model")
    return partial(os.kill, workers[0], signal.SIGKILL)


FAULTS = (
    InjectedFault("SIGTERM", _told_to_stop),
    InjectedFault("a worker's death", _worker_killed),
)


def inject(running: Running, fault: InjectedFault, call: Call) -> LoadResult:
    """Inject a fault into a server whose workers are all ready, under the load of all clients."""
    injector = FaultInjector(fault.prepare(running), AFTER)
    return load.many_at_once(
        running.base,
        [call],
        clients=CLIENTS,
        seconds=SECONDS,
        injector=injector,
        time_limit=_TIME_LIMIT,
    )


def wait_for_workers(running: Running, count: int) -> None:
    """Wait until every worker of a server has its model: /ping answers 200 with the first.

    Our server counts ready workers in its metrics; those of MLflow's own image log a line each.

    Raises:
        UserError: they are not ready in time.
    """

    def ready() -> bool:
        try:
            answer = requests.get(f"{running.base}/metrics", timeout=5)
        except requests.RequestException:
            return False
        gauge = _GAUGE.search(answer.text) if answer.ok else None
        if gauge:
            return int(gauge[1]) >= count
        return started(running.container.logs()) >= count

    try:
        until(
            ready,
            container=running.container,
            action=f"have {count} workers ready",
            limit=_READY_LIMIT,
            every=0.1,
        )
    except ContainerError as failure:
        raise UserError(f"{running.candidate.name}: {failure.in_one_line()}") from None


def started(log: bytes) -> int:
    """Count the workers that are ready by the log of MLflow's own image."""
    return log.count(_STARTED)
