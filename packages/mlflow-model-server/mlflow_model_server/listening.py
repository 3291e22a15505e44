"""The socket that listens: without delays, and without a connection lost when it closes."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_entrypoint.errors import EntrypointError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_BACKLOG = 2048
_SHUT_WAIT = 2.5
"""Seconds in which `shut` tries."""
_LOOKS = 10
_TICK = 0.002
"""Seconds between two looks."""
_INFO_SIZE = 104
_INFO_UNACKED = 24
"""Where tcp_info (linux/tcp.h) has, for a socket that listens, the length of its queue."""
_TABLE = Path("/proc/net/tcp")
"""The sockets of the network namespace: number, local and remote address, state, and more."""
_SYN_RECEIVED = "03"


def listen(host: str, port: int, user_timeout: int) -> socket.socket:
    """Listen on a port.

    Args:
        host: an address of this machine.
        port: TCP's.
        user_timeout: seconds after which the kernel ends a connection whose client acknowledges
            nothing, or makes no room for more (TCP_USER_TIMEOUT; RFC 5482): the event loop would
            keep an answer for it without limit.

    asyncio sets TCP_NODELAY on accepted sockets only where the listening one says that it is TCP's:
    otherwise an answer in two writes waits 40 ms for the client's delayed acknowledgement.

    Raises:
        EntrypointError: it can't be had.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Milliseconds; connections have it from the socket that accepts them.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, user_timeout * 1000)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise EntrypointError(
            f"port {port} can't be listened on: {error.strerror}; MLFLOW_MODELS_PORT sets another"
        ) from error
    return listener


async def shut(listener: socket.socket, admit: Callable[[socket.socket], Awaitable[None]]) -> None:
    """Close a listening socket with no client in its queue, for whom that would be a reset.

    Between the last accept() and close() somebody may always come. So the queue is made one place
    long, and a connection of our own takes that place: the kernel then drops the others' SYNs. They
    try again after a second, and find nobody listening. (A packet filter would do it too, but
    takes privileges.) A handshake whose last packet has found the queue full is complete on the
    client's side only, and goes on after a second: while there are such, the queue stays open.

    Args:
        listener: nobody else accepts from it.
        admit: takes those who have come before.
    """
    listener.settimeout(0)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SHUT_WAIT
    with listener:
        while loop.time() < deadline:
            with contextlib.suppress(BlockingIOError):
                while True:
                    await admit(listener.accept()[0])
            if _waiting(listener) is None:
                return  # nothing better can be done where the length of the queue isn't told
            if not _handshakes(listener) and await _plugged(listener):
                return
            await asyncio.sleep(_TICK)


async def _plugged(listener: socket.socket) -> bool:
    """Close it, if nobody but a connection of our own is in its queue; whether it is closed."""
    listener.listen(0)
    with socket.socket() as plug:
        plug.settimeout(0)
        if await _fills(listener, plug) and not _handshakes(listener):
            listener.close()
            return True
    listener.listen(_BACKLOG)
    return False


async def _fills(listener: socket.socket, plug: socket.socket) -> bool:
    """Connect, and see whether it is the one connection that waits to be accepted."""
    with contextlib.suppress(OSError):  # it doesn't wait; and there may be no loopback
        plug.connect(("127.0.0.1", listener.getsockname()[1]))
    await asyncio.sleep(_TICK)
    try:
        plug.send(b"\n")
    except OSError:
        return False  # somebody else has the place
    for _ in range(_LOOKS):
        await asyncio.sleep(_TICK)
        # What was sent is acknowledged only to who is in the queue.
        unsent = array.array("i", [0])
        fcntl.ioctl(plug, termios.TIOCOUTQ, unsent)
        if (_waiting(listener), unsent[0]) == (1, 0):
            return True
    return False


def _waiting(listener: socket.socket) -> int | None:
    """How many connections wait to be accepted; None under QEMU, which tells less of tcp_info."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
    if len(info) < _INFO_UNACKED + 4:
        return None
    (waiting,) = struct.unpack_from("I", info, _INFO_UNACKED)
    return int(waiting)


def _handshakes(listener: socket.socket) -> bool:
    """Whether clients of this port are between SYN and the queue."""
    port = f":{listener.getsockname()[1]:04X}"
    sockets = (line.split(maxsplit=4) for line in _TABLE.read_text("ascii").splitlines())
    return any(local.endswith(port) and state == _SYN_RECEIVED for _, local, _, state, _ in sockets)
