"""The socket that listens: without delays, and without a connection lost when it closes."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from typing import TYPE_CHECKING

from mlflow_entrypoint.errors import EntrypointError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_BACKLOG = 2048
_TRIES = 50
_LOOKS = 10
_TICK = 0.002
"""Seconds between two looks."""
_INFO_SIZE = 104
_INFO_UNACKED = 24
"""Where tcp_info (linux/tcp.h) has, for a socket that listens, the length of its queue."""


def listen(host: str, port: int) -> socket.socket:
    """Listen on a port.

    asyncio sets TCP_NODELAY on accepted sockets only where the listening one says that it is TCP's:
    otherwise an answer in two writes waits 40 ms for the client's delayed acknowledgement.

    Raises:
        EntrypointError: it can't be had.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
    takes privileges.)

    Args:
        listener: nobody else accepts from it.
        admit: takes those who have come before.
    """
    listener.settimeout(0)
    listener.listen(0)
    address = ("127.0.0.1", listener.getsockname()[1])
    with listener:
        for _ in range(_TRIES):
            with contextlib.suppress(BlockingIOError):
                while True:
                    await admit(listener.accept()[0])
            with socket.socket() as plug:
                plug.settimeout(0)
                if await _fills(listener, plug, address):
                    listener.close()
                    return


async def _fills(listener: socket.socket, plug: socket.socket, address: tuple[str, int]) -> bool:
    """Connect, and see whether it is the one connection that waits to be accepted."""
    # It doesn't wait; and where there is no loopback, the listener is closed without it.
    with contextlib.suppress(OSError):
        plug.connect(address)
    with contextlib.suppress(OSError):
        plug.send(b"\n")
    for _ in range(_LOOKS):
        # What was sent is acknowledged only to who is in the queue.
        unsent = array.array("i", [0])
        fcntl.ioctl(plug, termios.TIOCOUTQ, unsent)
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
        if len(info) < _INFO_UNACKED + 4:
            return False  # QEMU hands out a part of it
        (waiting,) = struct.unpack_from("I", info, _INFO_UNACKED)
        if (waiting, unsent[0]) == (1, 0):
            return True
        await asyncio.sleep(_TICK)
    return False
