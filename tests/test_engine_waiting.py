"""Waiting: it ends with success, with the container, or with the time limit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from docker.errors import NotFound

from seatrial.engine.ports import published_port
from seatrial.engine.waiting import ContainerError, answers_ok, until


@dataclass
class Container:
    """What `until` looks at: a container that goes through the given states."""

    states: list[dict[str, Any]]
    name: str = "box"
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """State as the engine said last."""
        return str(self.attrs["State"]["Status"])

    def reload(self) -> None:
        """Go on to the next state."""
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state["Status"] == "removed":
            raise NotFound("no such container")
        self.attrs = {"State": {"ExitCode": 0, "OOMKilled": False, "Error": "", **state}}

    def logs(self, tail: int, since: float | None) -> bytes:  # noqa: ARG002
        """The last `tail` lines."""
        return b"\n".join([b"first", b"last words \xff"][-tail:]) + b"\n"


def _wait(*states: dict[str, Any], answers: bool = False, limit: float = 5) -> None:
    container: Any = Container(list(states))
    until(lambda: answers, container=container, action="answer", limit=limit, every=0.01)


RUNNING = {"Status": "running"}


def test_success_ends_the_wait() -> None:
    _wait(RUNNING, answers=True)


def test_end_of_the_container_ends_the_wait_and_shows_its_last_words() -> None:
    with pytest.raises(ContainerError) as error:
        _wait(RUNNING, RUNNING, {"Status": "exited", "ExitCode": 3})
    assert error.value.message == "box exited with code 3 before it could answer"
    assert error.value.logs == "first\nlast words \N{REPLACEMENT CHARACTER}"


def test_later_the_last_line_is_enough() -> None:
    first = ContainerError("box exited", "Traceback\n  in main\nModuleNotFoundError: psycopg2 \n")
    assert str(first.in_one_line()) == "box exited; it said last: ModuleNotFoundError: psycopg2"
    assert str(ContainerError("box exited", "").in_one_line()) == "box exited"


def test_success_does_not_hide_that_the_container_has_ended() -> None:
    with pytest.raises(ContainerError, match="exited with code 0"):
        _wait({"Status": "exited"}, answers=True)


def test_want_of_memory_is_named() -> None:
    with pytest.raises(ContainerError, match=r"code 137, killed for want of memory \(oom\)"):
        _wait({"Status": "exited", "ExitCode": 137, "OOMKilled": True, "Error": "oom"})


def test_removal_ends_the_wait() -> None:
    with pytest.raises(ContainerError, match="box was removed before it could answer"):
        _wait(RUNNING, {"Status": "removed"})


def test_time_limit_ends_the_wait() -> None:
    with pytest.raises(ContainerError, match="box did not answer within 0 s") as error:
        _wait(RUNNING, limit=0.05)
    assert "last words" in error.value.logs


def test_refused_connection_is_no_answer() -> None:
    assert not answers_ok("http://127.0.0.1:9/health")


def test_port_of_a_container_that_has_ended_is_told_by_its_end() -> None:
    container: Any = Container([{"Status": "exited", "ExitCode": 1}])
    with pytest.raises(ContainerError, match="box exited with code 1 before it could be asked"):
        published_port(container, 5000)
