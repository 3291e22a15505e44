"""Messages between the manager and the front, on a socket that keeps messages apart."""

from __future__ import annotations

import json
import select
import socket
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

Kind = Literal["worker", "ended", "stopped", "continued", "stop", "fail", "ready", "lost"]

_LONGEST = 4096
_FILES = 65
"""The most sockets that come with a message: `settings` allows 64 lanes per worker."""


class Message(NamedTuple):
    """Message between the front and the manager.

    The manager says: `worker`, here are the sockets of one; `ended`, it has, with whether for want
    of memory, and which of its lanes are to blame for that; `stopped` and `continued`, by signals;
    `stop`; `fail`, no dead worker will be replaced any more: stop. The front says: `ready`, a
    worker has its model; `lost`, its sockets are closed, with whether it was answering, whether it
    ever had, and why it is given up.
    """

    kind: Kind
    worker: int = 0
    busy: bool = False
    answered: bool = False
    why: str = ""
    memory: bool = False
    blamed: Collection[int] = ()


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: Message, files: list[int] | None = None) -> None:
    """Send a message to the other side, if there still is one: both learn of an end elsewhere."""
    try:
        socket.send_fds(end, [json.dumps(message).encode()], files or [])
    except (BrokenPipeError, ConnectionResetError):
        return


def receive(end: socket.socket) -> tuple[Message, list[int]] | None:
    """The next message with its files; None when the other side has gone.

    Raises:
        BlockingIOError: there is none yet.
    """
    if not select.select([end], [], [], 0)[0]:  # recv_fds() doesn't heed MSG_DONTWAIT
        raise BlockingIOError
    try:
        data, files, _, _ = socket.recv_fds(end, _LONGEST, _FILES)
    except ConnectionResetError:
        return None
    if not data:
        return None
    fields: list[Any] = json.loads(data)
    return Message(*fields), list(files)
