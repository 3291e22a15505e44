"""What becomes of the server when its database or its processes hang."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest
import requests

from seatrial import catalogue
from seatrial.stack.oneoff import run_in_container
from seatrial.stack.settings import EMBEDDED
from seatrial.stack.waiting import answers_ok, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container

    from seatrial.contract import Promise
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.server import Server
    from seatrial.stack.services import ServiceAddresses
    from seatrial.trial.fixtures import Launch
    from seatrial.trial.session import TrialSession

DATABASE = "frozen"
ASKS_DATABASE = "/api/2.0/mlflow/experiments/get?experiment_id=0"
AT_ONCE = 30
"""Requests: more than a server has threads or connections for, it may refuse."""
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
"""Stops the processes that serve, those that listen and have no children that do, and prints them;
or prints which of some are stopped."""


@contextmanager
def _database(trial: TrialSession, services: ServiceAddresses) -> Iterator[Container]:
    """A PostgreSQL of this test alone, which it can freeze."""
    container = trial.client.containers.run(
        catalogue.load_builtin().services["postgres"].reference,
        detach=True,
        network=trial.session.network,
        labels=trial.session.labels,
        environment={
            "POSTGRES_USER": services.user,
            "POSTGRES_PASSWORD": services.password,
            "POSTGRES_DB": DATABASE,
        },
    )
    try:
        until(
            lambda: run_in_container(container, "pg_isready", "-h", "127.0.0.1").code == 0,
            container=container,
            what="accept connections",
            limit=90,
        )
        container.reload()
        yield container
    finally:
        container.remove(force=True, v=True)


@pytest.mark.promise("server.survives_frozen_database")
class TestFrozenDatabase:
    """It takes connections, and answers nothing: no refusal tells clients of it."""

    @pytest.mark.parametrize("scheme", ["postgresql+psycopg2", "postgresql"])
    def test_requests_fail_and_serve_again(
        self,
        scheme: str,
        trial: TrialSession,
        image: ImageUnderTest,
        services: ServiceAddresses,
        launch: Launch,
        promised: Promise,
    ) -> None:
        limit = int(str(promised.value)) * image.scale
        with _database(trial, services) as database:
            networks = database.attrs["NetworkSettings"]["Networks"]
            host = networks[trial.session.network]["IPAddress"]
            url = f"{scheme}://{services.user}:{services.password}@{host}:5432/{DATABASE}"
            server = launch(
                replace(EMBEDDED, name="frozen", database="postgresql", database_url=url)
            )
            _wait_until_served(server, limit)
            database.pause()
            try:
                _assert_all_fail(server, limit)
            finally:
                database.unpause()
            _wait_until_served(server, limit)


def _assert_all_fail(server: Server, limit: float) -> None:
    def ask(_: int) -> str:
        try:
            status = requests.get(f"{server.url}{ASKS_DATABASE}", timeout=limit).status_code
        except requests.Timeout:
            return f"no answer within {limit:.0f} s"
        return "" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else f"{status}"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = pool.map(ask, range(AT_ONCE))
        time.sleep(1)
        health = [answers_ok(f"{server.url}/health") for _ in range(IN_A_ROW)]
        faults = [fault for fault in asked if fault]
    assert not faults, f"{len(faults)} of {AT_ONCE} requests did not fail: {faults[0]}"
    assert all(health), f"/health failed {health.count(False)} times, which asks no database"


def _wait_until_served(server: Server, limit: float) -> None:
    """Wait until the database is asked successfully, several times in a row."""

    def served() -> bool:
        return all(answers_ok(f"{server.url}{ASKS_DATABASE}") for _ in range(IN_A_ROW))

    until(served, container=server.container, what="serve from its database", limit=limit)


@pytest.mark.promise("server.recovers_from_hangs")
@pytest.mark.parametrize("workers", ["several", "one"])
def test_processes_that_are_stopped(
    workers: str,
    embedded_server: Server,
    launch: Launch,
    image: ImageUnderTest,
    promised: Promise,
) -> None:
    """All of those that serve: none is left that would answer in their place."""
    settings = embedded_server.settings
    if workers == "one":
        settings = replace(settings, name="one-worker", options=(*settings.options, "--workers=1"))
    server = launch(settings)
    stopped = _run(server, "stop").split()
    assert stopped, "no process that serves was found"

    def recovered() -> bool:
        healthy = all(answers_ok(f"{server.url}/health") for _ in range(IN_A_ROW))
        return healthy and not _run(server, "which", *stopped)

    until(
        recovered,
        container=server.container,
        what=f"serve again after {' and '.join(stopped)} were stopped",
        limit=int(str(promised.value)) * image.scale,
    )


def _run(server: Server, task: str, *pids: str) -> str:
    start = server.image.contract.start
    found = run_in_container(
        server.container, start.interpreter, "-c", WORKERS, task, str(start.port), *pids
    )
    assert found.code == 0, f"its processes can't be looked at: {found}"
    return found.output.strip()
