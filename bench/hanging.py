"""Hanging requests, and the time until a server answers others again."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING

import requests

from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from bench.candidate import Running

HANGING = 80
"""Hanging requests: the number of threads in two of MLflow's own workers."""
LONGEST = 60.0
"""Seconds after which a server counts as never recovered."""
ASK_LIMIT = 2.0
"""Seconds in which a request has to be answered that a free worker answers at once."""
IN_A_ROW = 20
"""Consecutive good answers that show that all workers answer again."""
_PAUSE = 0.1


def until_answers(running: Running, body: Mapping[str, Any], hanging: Mapping[str, Any]) -> float:
    """Have predictions hang in every worker, and measure how long others are not answered.

    Args:
        running: a server whose workers are all ready.
        body: a request that is answered at once.
        hanging: a request that is not answered.

    Returns:
        seconds from the first request that hangs; `LONGEST` where others are not answered by then.
    """
    url = f"{running.base}/invocations"
    pool = ThreadPoolExecutor(HANGING)
    try:
        began = time.monotonic()
        for _ in range(HANGING):
            pool.submit(_ask, url, hanging, LONGEST)
        time.sleep(1.0)
        return _measure(url, body, began)
    finally:
        running.container.kill()  # ends the connections that hang
        pool.shutdown()


def until_replaced(running: Running, body: Mapping[str, Any], library: str) -> float:
    """Stop a worker's process (SIGSTOP), and measure how long another one takes its place.

    Args:
        running: a server whose workers are all ready.
        body: a request that is answered at once.
        library: what workers have mapped, and no other process.

    Returns:
        seconds until as many other workers hold the model as before, and all requests are
        answered; `LONGEST` where that takes longer.
    """
    workers = running.holders(library)
    if not workers:
        raise UserError(f"{running.candidate.name}: no process holds the model")
    began = time.monotonic()
    os.kill(workers[0], signal.SIGSTOP)
    while time.monotonic() - began < LONGEST:
        there = running.holders(library)
        if workers[0] not in there and len(there) >= len(workers):
            return _measure(f"{running.base}/invocations", body, began)
        time.sleep(_PAUSE)
    return LONGEST


def _measure(url: str, body: Mapping[str, Any], began: float) -> float:
    """Ask on new connections until `IN_A_ROW` requests were answered at once."""
    good, since = 0, 0.0
    while time.monotonic() - began < LONGEST:
        if _ask(url, body, ASK_LIMIT):
            since = since if good else time.monotonic() - began
            good += 1
            if good == IN_A_ROW:
                return since
        else:
            good = 0
        time.sleep(_PAUSE)
    return LONGEST


def _ask(url: str, body: Mapping[str, Any], limit: float) -> bool:
    try:
        return requests.post(url, json=body, timeout=limit).status_code == HTTPStatus.OK
    except requests.RequestException:
        return False
