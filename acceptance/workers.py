"""The processes that hold a model, and clients that ask while something happens to them."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests

from seatrial.stack.run_container import run_in_container
from seatrial.trial.model_cases import Payload

from .predictions import assert_predicts
from .serving import JSON, scripted, with_parameters

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator

    from seatrial.stack.model_server import ModelServer

_SIGNAL = """
import os, sys
from pathlib import Path

def read(number, name):
    try:
        return Path("/proc", str(number), name).read_text()
    except OSError:  # the process has ended, or is another user's
        return ""

def fields(number):
    return read(number, "stat").rpartition(")")[2].split()

numbers = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
parents = {int(row[1]) for number in numbers if (row := fields(number))}
for number in numbers:
    if number in parents | {1, os.getpid()} or "numpy" not in read(number, "maps"):
        continue
    if fields(number)[0] != "T":
        os.kill(number, int(sys.argv[1]))
        print(number)
        break
"""
"""Sends a signal to a process that holds the model, and prints its number: the oldest with NumPy,
that has no children and is not stopped."""

_STATE = """
import sys
from pathlib import Path

try:
    print(Path("/proc", sys.argv[1], "stat").read_text().rpartition(")")[2].split()[0])
except OSError:
    print("-")
"""


def let_workers_load(server: ModelServer) -> None:
    """Give the other workers time: /ping may say 200 when the first has loaded its model."""
    time.sleep(1.0 * server.image.scale)


def signal_worker(server: ModelServer, number: signal.Signals) -> str:
    """Send a signal to a worker.

    Returns:
        the number of its process, as the container counts.
    """
    interpreter = server.image.contract.start.interpreter
    outcome = run_in_container(server.container, interpreter, "-c", _SIGNAL, str(number.value))
    assert outcome.code == 0, f"no worker in the container can be sent {number.name}: {outcome}"
    assert outcome.output.split(), (
        f"no process of the container holds a model, so that none can be sent {number.name}"
    )
    return outcome.output.split()[-1]


def is_stopped(server: ModelServer, process: str) -> bool:
    """Tell whether a process of the container is there, and stopped by a signal."""
    interpreter = server.image.contract.start.interpreter
    outcome = run_in_container(server.container, interpreter, "-c", _STATE, process)
    assert outcome.code == 0, f"the container's processes can't be read: {outcome}"
    return outcome.output.split()[-1] == "T"


@contextmanager
def clients_asking(
    server: ModelServer, clients: int, next_payload: Callable[[], Payload]
) -> Iterator[None]:
    """Have clients ask without a pause in the meantime, and require all their answers.

    Args:
        server: what is asked.
        clients: how many ask at the same time.
        next_payload: called by each client before each of its requests.
    """
    over = threading.Event()

    def ask_until_over() -> list[str]:
        faults = []
        while not over.is_set():
            try:
                assert_predicts(server, next_payload())
            except (requests.RequestException, AssertionError) as error:
                faults.append(str(error))
        return faults

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask_until_over) for _ in range(clients)]
        try:
            yield
        finally:
            over.set()
        faults = [fault for client in asking for fault in client.result()]
    assert not faults, (
        f"{len(faults)} requests that other clients sent meanwhile failed, such as: {faults[0]}"
    )


@contextmanager
def clients_shifting(server: ModelServer, clients: int) -> Iterator[Iterator[float]]:
    """Have clients ask the scriptable model in the meantime, with another shift in each request.

    An answer that belongs to another request is seen by its shift.

    Yields:
        the rising shifts: a request beside those of the clients takes the next.
    """
    shifts = map(float, itertools.count())

    def next_payload() -> Payload:
        shift = next(shifts)
        body = with_parameters(pause=0.05 * server.image.scale, shift=shift)
        return Payload(JSON, body, scripted(2.0, shift))

    with clients_asking(server, clients, next_payload):
        yield shifts
