"""Whose a container is: seen by real processes, also from another PID namespace."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from seatrial.stack.labels import (
    OWNER_LABEL,
    SESSION_LABEL,
    Session,
    is_abandoned,
    remove_abandoned,
)
from seatrial.stack.owner import MOST_SECONDS, Owner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OWNER_OF_A_CHILD = (
    "from seatrial.stack.owner import Owner; print(Owner.this_process(), flush=True); input()"
)
ELSEWHERE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@dataclass
class Engine:
    """Client of an engine with containers and nothing else."""

    containers_left: list[Container]

    @property
    def containers(self) -> Engine:
        """The containers."""
        return self

    networks = volumes = images = property(lambda _: Engine([]))

    def list(self, **_: object) -> list[Container]:
        """List what is left."""
        return list(self.containers_left)


@dataclass
class Container:
    """A container of some owner."""

    name: str
    owner: Owner
    removed: bool = False

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of its session."""
        return {SESSION_LABEL: "abcd", OWNER_LABEL: str(self.owner)}

    def remove(self, **_: object) -> None:
        """Note it."""
        self.removed = True


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits to be ended."""
    yield from _waiting([sys.executable, "-c", OWNER_OF_A_CHILD])


@pytest.fixture
def elsewhere() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits to be ended, in a PID namespace of its own."""
    if not shutil.which("unshare") or subprocess.run([*ELSEWHERE, "true"], check=False).returncode:
        pytest.skip("no PID namespace can be made here: runs as root on Linux")
    yield from _waiting([*ELSEWHERE, sys.executable, "-c", OWNER_OF_A_CHILD])


def _waiting(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def _owner_of(process: subprocess.Popen[bytes]) -> Owner:
    assert process.stdout
    owner = Owner.read(process.stdout.readline().decode().strip())
    assert owner
    return owner


def test_own_session_is_alive() -> None:
    session = Session.begin()
    owner = Owner.read(session.owner)
    assert owner is not None
    assert not owner.is_gone()
    assert session.labels == {SESSION_LABEL: session.id, OWNER_LABEL: session.owner}
    assert session.id in session.network


def test_sessions_differ() -> None:
    assert Session.begin().id != Session.begin().id


def test_owner_that_was_killed_is_gone(other: subprocess.Popen[bytes]) -> None:
    owner = _owner_of(other)
    assert not owner.is_gone()
    other.kill()
    other.wait()
    assert owner.is_gone()


def test_owner_that_nobody_has_reaped_is_gone(other: subprocess.Popen[bytes]) -> None:
    owner = _owner_of(other)
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert owner.is_gone()


def test_sweep_removes_what_dead_owners_left_and_nothing_of_live_ones(
    other: subprocess.Popen[bytes], elsewhere: subprocess.Popen[bytes]
) -> None:
    dead, alive = Container("dead", _owner_of(other)), Container("alive", _owner_of(elsewhere))
    other.kill()
    other.wait()
    client: Any = Engine([dead, alive])
    assert remove_abandoned(client) == ["container dead"]
    assert (dead.removed, alive.removed) == (True, False)


def test_process_id_that_was_given_out_again_is_another_owner() -> None:
    assert replace(Owner.this_process(), started="1").is_gone()


def test_live_owner_in_another_pid_namespace_is_left_alone(
    elsewhere: subprocess.Popen[bytes],
) -> None:
    owner = _owner_of(elsewhere)
    assert owner.namespace != Owner.this_process().namespace
    assert owner.boot == Owner.this_process().boot
    assert not owner.is_gone()


def test_owner_here_is_left_alone_from_another_pid_namespace() -> None:
    asks = (
        "import sys; from seatrial.stack.owner import Owner;"
        " print(Owner.read(sys.argv[1]).is_gone())"
    )
    command = [*ELSEWHERE, sys.executable, "-c", asks, str(Owner.this_process())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip("no PID namespace can be made here: runs as root on Linux")
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "elsewhere"},
        {"host": "elsewhere", "machine": "another", "boot": "another"},
        {"boot": "another", "machine": ""},
        {"namespace": "pid:[1]"},
        {"host": "container", "namespace": "pid:[1]", "machine": ""},
    ],
)
def test_owner_that_cannot_be_seen_is_left_alone_for_as_long_as_a_run_lasts(
    changes: dict[str, str],
) -> None:
    owner = replace(Owner.this_process(), pid=999_999_999, **changes)  # type: ignore[arg-type]
    assert not owner.is_gone()
    assert replace(owner, begun=int(time.time()) - MOST_SECONDS - 60).is_gone()


def test_owner_before_a_reboot_of_this_machine_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seatrial.stack.owner._read", lambda path: path.name)
    assert replace(Owner.this_process(), boot="an earlier one").is_gone()


def test_step_of_the_clock_changes_no_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner.this_process()
    monkeypatch.setattr(time, "time", lambda: owner.begun + 2 * MOST_SECONDS)
    assert not owner.is_gone()


@pytest.mark.parametrize("owner", [None, ""])
def test_what_names_no_owner_is_abandoned(owner: str | None) -> None:
    labels = {SESSION_LABEL: "abcd"} | ({} if owner is None else {OWNER_LABEL: owner})
    assert is_abandoned(labels)


@pytest.mark.parametrize("label", ["nonsense", "host 12 1700000000.5", "a b c d e f g", "{}", " "])
def test_label_of_another_version_is_left_alone(label: str) -> None:
    assert Owner.read(label) is None
    assert not is_abandoned({SESSION_LABEL: "abcd", OWNER_LABEL: label})


def test_earlier_versions_leave_this_one_s_alone() -> None:
    host, pid, _ = str(Owner.this_process()).rsplit(" ", 2)
    assert pid.isdigit()
    assert host != socket.gethostname()


def test_label_is_read_as_it_was_written() -> None:
    owner = replace(Owner.this_process(), machine="")
    assert Owner.read(str(owner)) == owner
