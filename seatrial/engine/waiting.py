"""Wait for something that a container is to do, and stop early when it can't any more."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import requests
from docker.errors import NotFound
from tenacity import RetryError, Retrying, retry_if_result, wait_fixed
from tenacity.stop import stop_base

from seatrial.engine.machine_speed import MACHINE_SPEED, MachineSpeed

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker.models.containers import Container
    from tenacity import RetryCallState

LOG_LINES = 25


class ContainerError(Exception):
    """A container ended, or did not do in time what was waited for.

    The message is one line; `logs` holds the container's last lines.
    """

    def __init__(self, message: str, logs: str) -> None:
        super().__init__(message)
        self.message = message
        self.logs = logs

    def __str__(self) -> str:
        return f"{self.message}\nlast log lines:\n{self.logs}" if self.logs else self.message

    def in_one_line(self) -> ContainerError:
        """The same failure for whoever meets it later: of the log only the last line."""
        last_line = f"; it said last: {self.logs.splitlines()[-1].strip()}" if self.logs else ""
        return ContainerError(f"{self.message}{last_line}", "")


class Deadline(stop_base):
    """Stops retrying after `limit` seconds, or later where the machine has got slower meanwhile."""

    def __init__(self, limit: float, speed: MachineSpeed = MACHINE_SPEED) -> None:
        """Begin to count.

        Args:
            limit: seconds, on the machine as it was measured last.
            speed: measured anew when the limit is over.
        """
        self._limit, self._speed, self._factor = limit, speed, speed.factor
        self.allowed = limit
        """Seconds that are granted so far."""

    def __call__(self, retry_state: RetryCallState) -> bool:
        """Tell whether the time is over."""
        passed = retry_state.seconds_since_start or 0.0
        if passed >= self.allowed:
            self.allowed = self._limit * self._speed.refresh(fresh=0) / self._factor
        return passed >= self.allowed


def last_lines(container: Container, lines: int = LOG_LINES, *, since: float | None = None) -> str:
    """The last log lines of `container`, standard output and error in one.

    Args:
        container: running or not.
        lines: how many at most.
        since: seconds of the epoch; earlier lines are left out.
    """
    text: bytes = container.logs(tail=lines, since=since)
    return text.decode(errors="replace").rstrip()


def answers_ok(url: str) -> bool:
    """Tell whether GET `url` is answered with 200; a refused or broken connection is a no."""
    try:
        return requests.get(url, timeout=10).status_code == HTTPStatus.OK
    except requests.RequestException:
        return False


def require_not_ended(container: Container, action: str) -> None:
    """See that a container may still do something.

    Args:
        container: is asked of the engine anew.
        action: is waited for, as in "answer on /health".

    Raises:
        ContainerError: it has exited or is gone.
    """
    try:
        container.reload()
    except NotFound:
        raise ContainerError(f"{container.name} was removed before it could {action}", "") from None
    if container.status in ("exited", "dead"):
        state = container.attrs["State"]
        reason = f" ({state['Error']})" if state["Error"] else ""
        killed = ", killed for want of memory" if state["OOMKilled"] else ""
        raise ContainerError(
            f"{container.name} exited with code {state['ExitCode']}{killed}{reason}"
            f" before it could {action}",
            last_lines(container),
        )


def until(
    check: Callable[[], bool],
    *,
    container: Container,
    action: str,
    limit: float,
    every: float = 0.2,
) -> None:
    """Wait until `check` says yes.

    Args:
        check: asked every `every` seconds.
        container: the one that is waited for; its end ends the wait.
        action: what is waited for, as in "answer on /health".
        limit: the longest wait, in seconds; longer where the machine gets slower meanwhile.
        every: the pause between two questions, in seconds.

    Raises:
        ContainerError: the container has exited or is gone, or `limit` is over.
    """

    def done() -> bool:
        require_not_ended(container, action)
        return check()

    deadline = Deadline(limit)
    try:
        Retrying(
            retry=retry_if_result(lambda answer: not answer),
            stop=deadline,
            wait=wait_fixed(every),
        )(done)
    except RetryError:
        passed = f"within {deadline.allowed:.0f} s{MACHINE_SPEED.remark}"
        message = f"{container.name} did not {action} {passed}"
        raise ContainerError(message, last_lines(container)) from None
