"""Whose a container is: seen by real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from seatrial.stack.ownership import OWNER_LABEL, SESSION_LABEL, Session, owner_is_gone

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits to be ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def _owner(pid: int, started: object, host: str = "") -> str:
    return f"{host or socket.gethostname()} {pid} {started}"


def test_own_session_is_alive() -> None:
    session = Session.begin()
    assert not owner_is_gone(session.owner)
    assert session.labels == {SESSION_LABEL: session.id, OWNER_LABEL: session.owner}
    assert session.id in session.network


def test_sessions_differ() -> None:
    assert Session.begin().id != Session.begin().id


def test_owner_that_was_killed_is_gone(other: subprocess.Popen[bytes]) -> None:
    owner = _owner(other.pid, psutil.Process(other.pid).create_time())
    assert not owner_is_gone(owner)
    other.kill()
    other.wait()
    assert owner_is_gone(owner)


def test_process_id_that_was_given_out_again_is_another_owner() -> None:
    assert owner_is_gone(_owner(os.getpid(), 12.5))


def test_owner_on_another_host_is_left_alone() -> None:
    assert not owner_is_gone(_owner(999_999_999, 1.0, host="elsewhere"))


@pytest.mark.parametrize("label", ["", "nonsense", "host pid start"])
def test_label_that_names_nobody_protects_nothing(label: str) -> None:
    assert owner_is_gone(label)
