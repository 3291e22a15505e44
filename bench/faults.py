"""Faults that befall a server of a model while it is under load, and the requests that they cost.

A request has failed if it was sent on a connection that was established, and was not answered
whole, with 200 and the right prediction. It does not matter whose fault it looks like: a connection
that is reset, an answer that breaks off, 502 of a proxy, all are a lost prediction to a client. A
connection that is refused, or reset before it is established, is none: a server that was told to
stop has to stop accepting some time, and a client that could not connect knows that nothing was
sent. The same holds for both sides, and each is talked to at its container's own address: the
engine's proxy would accept connections for a container that has ended, and so count against both.
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
from bench.load import Strike
from seatrial.errors import UserError
from seatrial.stack.waiting import ContainerError, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.contestant import Running
    from bench.load import Call, Outcome

CLIENTS = 8
SECONDS = 6.0
AFTER = 1.5
_TIME_LIMIT = 20.0
_READY_LIMIT = 60.0
_LIBRARY = "/numpy/"
"""Only processes that hold a model have mapped it, and those from which they were forked."""
_STARTED = b"Application startup complete"
_GAUGE = re.compile(r"^mlflow_model_workers_ready (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Fault:
    """Something that befalls a server."""

    name: str
    prepare: Callable[[Running], Callable[[], object]]
    """Finds, on a server that has no other load, what is struck; what it gives back strikes."""


def _told_to_stop(running: Running) -> Callable[[], object]:
    return partial(running.container.kill, signal.SIGTERM)


def _worker_killed(running: Running) -> Callable[[], object]:
    workers = running.holders(_LIBRARY)
    if not workers:
        raise UserError(f"{running.contestant.name}: no process holds the model")
    return partial(os.kill, workers[0], signal.SIGKILL)


FAULTS = (Fault("SIGTERM", _told_to_stop), Fault("a worker's death", _worker_killed))


def suffer(running: Running, fault: Fault, call: Call) -> Outcome:
    """Let a server whose workers are all ready suffer a fault, while clients ask without a pause.

    Returns:
        what came of the requests.
    """
    strike = Strike(fault.prepare(running), AFTER)
    return load.many_at_once(
        running.base,
        [call],
        clients=CLIENTS,
        seconds=SECONDS,
        strike=strike,
        time_limit=_TIME_LIMIT,
    )


def wait_for_workers(running: Running, count: int) -> None:
    """Wait until each worker of a server has its model: the first makes /ping say 200.

    Ours counts them in its metrics. Those of MLflow's own image say it in the log.

    Raises:
        UserError: they have not, in time.
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
            what=f"have {count} workers ready",
            limit=_READY_LIMIT,
            every=0.1,
        )
    except ContainerError as failure:
        raise UserError(f"{running.contestant.name}: {failure.in_one_line()}") from None


def started(log: bytes) -> int:
    """How many workers have said, in the log of MLflow's own image, that they are ready."""
    return log.count(_STARTED)
