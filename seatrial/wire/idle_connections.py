"""Many idle connections."""

from __future__ import annotations

import resource
import select
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

from seatrial.errors import UserError
from seatrial.wire.cases import request
from seatrial.wire.exchange import connect, read_answers

if TYPE_CHECKING:
    import socket
    from types import TracebackType

    from seatrial.wire.cases import WireTarget

USED = 100
"""Connections that have sent a request, and as many that have not, that are used in the end."""
SPARE_FILES = 500
"""Open files of this process beside the connections."""
_SHORTEST_IDLE = 4.0
"""Seconds that every server keeps an idle connection: uvicorn's own default is 5."""
_SETTLED = 1.0
"""Seconds in which a server has taken what was opened, or closed it."""
_ANSWER_LIMIT = 30.0
"""Seconds, natively."""


def allow_files(count: int) -> None:
    """Raise this process's own limit of open files.

    Raises:
        UserError: the machine does not allow as many.
    """
    wanted = count + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise UserError(
            f"{count} connections need {wanted} open files, and this process may have {hard}: raise"
            " the hard limit (ulimit -Hn)"
        )
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class IdleConnections:
    """Connections of this process to one server."""

    def __init__(self, target: WireTarget, scale: float = 1) -> None:
        self.refused = ""
        """Reason why a connection was refused or lost; empty while all are open."""
        self._target, self._scale = target, scale
        self._open: list[tuple[socket.socket, float]] = []
        """Connections, with the time since when they are idle."""
        self._late: list[tuple[socket.socket, float]] = []
        self._get = request(f"GET {target.health} HTTP/1.1", target.host)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for connection, _ in self._open:
            connection.close()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, count: int) -> None:
        """Open connections; the last ones are those that `use` uses.

        Raises:
            UserError: this process may not have as many.
        """
        allow_files(count)
        for _ in range(count):
            try:
                connection = connect(self._target.address, self._scale)
            except OSError as error:
                self.refused = str(error)
                return
            self._open.append((connection, time.monotonic()))
        time.sleep(_SETTLED)
        if evicted := self._evicted():
            self.refused = f"{evicted} of {count} were closed at once, for others"
            return
        used = min(USED, count // 2)
        self._late = self._open[-2 * used :]
        for number, (connection, _) in enumerate(self._late[:used]):
            if fault := self._ask(connection):
                self.refused = fault
                return
            self._late[number] = (connection, time.monotonic())

    def _evicted(self) -> int:
        """Count connections that were closed before an idle limit could apply.

        A server with room for few closes older connections for new ones.
        """
        late = time.monotonic() - _SHORTEST_IDLE * self._scale
        return sum(_is_closed(connection) for connection, since in self._open if since > late)

    def use(self) -> list[str]:
        """Send a request on each of the last connections that were opened.

        A server may close a connection that was idle for some seconds.

        Returns:
            what went wrong.
        """
        faults = []
        for connection, since in self._late:
            idle = time.monotonic() - since
            if idle > _SHORTEST_IDLE * self._scale and _is_closed(connection):
                continue
            if fault := self._ask(connection):
                faults.append(f"{fault}, after {idle:.1f} s")
        return faults

    def _ask(self, connection: socket.socket) -> str:
        """Send a request on an open connection; say what is wrong with the answer, or nothing."""
        connection.settimeout(_ANSWER_LIMIT * self._scale)
        received = b""
        try:
            connection.sendall(self._get)
            while not (answers := read_answers(received)[0]):
                if not (piece := connection.recv(1 << 16)):
                    return f"closed after {len(received)} bytes of the answer"
                received += piece
        except OSError as error:
            return f"{type(error).__name__} {error}".strip()
        status = answers[0].status
        return "" if status == HTTPStatus.OK else f"answered with {status}"


def _is_closed(connection: socket.socket) -> bool:
    waiting = select.poll()  # select() takes no file beyond 1024
    waiting.register(connection, select.POLLIN)
    return bool(waiting.poll(0))
