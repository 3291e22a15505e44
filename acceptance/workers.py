"""The processes that hold a model, and what clients see when something happens to them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests

from seatrial.stack.oneoff import run_in_container

from .predictions import assert_answered

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator

    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.model_server import ModelServer

_SIGNAL = """
import os, sys
from pathlib import Path

def read(number, name):
    try:
        return Path("/proc", str(number), name).read_text()
    except OSError:  # it has ended, or is another user's
        return ""

def words(number):
    return read(number, "stat").rpartition(")")[2].split()

numbers = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
parents = {int(row[1]) for one in numbers if (row := words(one))}
for one in numbers:
    if one in parents | {1, os.getpid()} or "numpy" not in read(one, "maps"):
        continue
    if words(one)[0] != "T":
        os.kill(one, int(sys.argv[1]))
        print(one)
        break
"""
"""Sends a signal to a process that holds the model, and prints its number: the oldest with NumPy,
without children, and not stopped."""

_STATE = """
import sys
from pathlib import Path

try:
    print(Path("/proc", sys.argv[1], "stat").read_text().rpartition(")")[2].split()[0])
except OSError:
    print("-")
"""


def signal_worker(server: ModelServer, image: ImageUnderTest, number: signal.Signals) -> str:
    """Send a signal to a worker.

    Returns:
        the number of its process, as the container counts.
    """
    interpreter = image.contract.start.interpreter
    sent = run_in_container(server.container, interpreter, "-c", _SIGNAL, str(number.value))
    assert sent.code == 0, f"no worker can be sent a signal: {sent}"
    assert sent.output.split(), "no process of the container holds the model"
    return sent.output.split()[-1]


def is_stopped(server: ModelServer, image: ImageUnderTest, process: str) -> bool:
    """Whether a process of the container is there, and stopped by a signal."""
    interpreter = image.contract.start.interpreter
    asked = run_in_container(server.container, interpreter, "-c", _STATE, process)
    assert asked.code == 0, f"the container's processes can't be read: {asked}"
    return asked.output.split()[-1] == "T"


@contextmanager
def asking_on(
    server: ModelServer,
    image: ImageUnderTest,
    clients: int,
    ask: Callable[[], tuple[str, str, object]],
) -> Iterator[None]:
    """Have clients ask meanwhile without a pause, and get all their answers.

    Args:
        server: which one.
        image: what it is of.
        clients: how many.
        ask: gives body, content type and predictions of the next request.
    """
    over = threading.Event()

    def ask_on() -> list[str]:
        faults = []
        while not over.is_set():
            body, kind, expected = ask()
            try:
                assert_answered(server.ask(body, kind), expected, image)
            except (requests.RequestException, AssertionError) as error:
                faults.append(str(error))
        return faults

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask_on) for _ in range(clients)]
        try:
            yield
        finally:
            over.set()
        faults = [fault for one in asking for fault in one.result()]
    assert not faults, f"{len(faults)} other requests failed: {faults[0]}"
