"""The server while its database or its processes hang."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest
import requests

from seatrial.backends.postgresql import PostgreSQL
from seatrial.engine.waiting import answers_ok, until
from seatrial.stack.run_container import run_in_container
from seatrial.stack.settings import EMBEDDED

if TYPE_CHECKING:
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.server import MLflowServer
    from seatrial.trial.fixtures import Launch

    from .private_postgresql import PrivatePostgreSQL

ASKS_DATABASE = "/api/2.0/mlflow/experiments/get?experiment_id=0"
AT_ONCE = 30
"""Requests; a server may refuse more than it has threads or connections for."""
IN_A_ROW = 10
"""Answers after which every process of a server is taken to serve again."""

WORKERS = """
import os, re, signal, sys
def listeners():
    lines = [line.split() for name in ("tcp", "tcp6") if os.path.exists(f"/proc/net/{name}")
             for line in open(f"/proc/net/{name}")]
    inodes = {words[9] for words in lines if words[3] == "0A"
              and int(words[1].rpartition(":")[2], 16) == int(sys.argv[2])}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            folder = f"/proc/{pid}/fd"
            files = [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]
        except OSError:
            continue
        if any(f"socket:[{inode}]" in files for inode in inodes):
            yield int(pid)
def fields(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    except OSError:
        return None
if sys.argv[1] == "stop":
    found = sorted(listeners())
    parents = {int(fields(pid)[1]) for pid in found}
    for pid in (pid for pid in found if pid not in parents and pid != 1):
        os.kill(pid, signal.SIGSTOP)
        print(pid)
else:
    print(*(pid for pid in sys.argv[3:] if (known := fields(pid)) and known[0] == "T"))
"""
"""Stops the processes that serve, and prints them, or prints which of some processes are stopped.

The processes that serve are those that listen on the port and have no children that do."""


@pytest.mark.promise("server.survives_frozen_database")
class TestFrozenDatabase:
    """A database that takes connections and answers nothing: no refusal reaches its clients."""

    @pytest.mark.parametrize("scheme", ["postgresql+psycopg2", "postgresql"])
    def test_requests_fail_and_serve_again(
        self,
        scheme: str,
        image: ImageUnderTest,
        private_postgresql: PrivatePostgreSQL,
        launch: Launch,
        promised_number: int,
    ) -> None:
        limit = promised_number * image.scale
        database = private_postgresql.start()
        url = private_postgresql.url(scheme=scheme, host=private_postgresql.address(database))
        server = launch(replace(EMBEDDED, name="frozen", database="postgresql", database_url=url))
        _wait_until_served(server, limit)

        with PostgreSQL.frozen(database):
            _assert_all_fail(server, limit)

        _wait_until_served(server, limit)


def _assert_all_fail(server: MLflowServer, limit: float) -> None:
    def ask(_: int) -> str:
        try:
            status = requests.get(f"{server.url}{ASKS_DATABASE}", timeout=limit).status_code
        except requests.Timeout:
            return f"no answer within {limit:.0f} s"
        return "" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else f"answered with {status}"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = pool.map(ask, range(AT_ONCE))
        time.sleep(1)
        health = [answers_ok(f"{server.url}/health") for _ in range(IN_A_ROW)]
        faults = [fault for fault in asked if fault]
    assert not faults, (
        f"the database hangs, and of {AT_ONCE} requests that need it, {len(faults)} did not fail"
        f" with 5xx in time: {faults[0]}"
    )
    assert all(health), (
        f"the database hangs, and of {IN_A_ROW} requests to /health, which needs none,"
        f" {health.count(False)} failed"
    )


def _wait_until_served(server: MLflowServer, limit: float) -> None:
    """Wait until the database is asked successfully, several times in a row."""

    def served() -> bool:
        return all(answers_ok(f"{server.url}{ASKS_DATABASE}") for _ in range(IN_A_ROW))

    until(served, container=server.container, action="serve from its database", limit=limit)


@pytest.mark.promise("server.recovers_from_hangs")
@pytest.mark.parametrize("workers", ["several", "one"])
def test_processes_that_are_stopped(
    workers: str,
    embedded_server: MLflowServer,
    launch: Launch,
    promised_number: int,
) -> None:
    """Every process that serves is stopped, so that no other answers in its place."""
    settings = embedded_server.settings
    if workers == "one":
        settings = replace(settings, name="one-worker", options=(*settings.options, "--workers=1"))
    server = launch(settings)
    stopped = _run(server, "stop").split()
    assert stopped, "no process of the container was found that listens on the server's port"

    def recovered() -> bool:
        healthy = all(answers_ok(f"{server.url}/health") for _ in range(IN_A_ROW))
        return healthy and not _run(server, "which", *stopped)

    until(
        recovered,
        container=server.container,
        action=f"serve again after {' and '.join(stopped)} were stopped",
        limit=promised_number * server.image.scale,
    )


def _run(server: MLflowServer, task: str, *pids: str) -> str:
    """Run a task of `WORKERS` in the server's container, and return what it prints."""
    start = server.image.contract.start
    found = run_in_container(
        server.container, start.interpreter, "-c", WORKERS, task, str(start.port), *pids
    )
    assert found.code == 0, f"the processes in the server's container can't be read: {found}"
    return found.output.strip()
