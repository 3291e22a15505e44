"""The socket that listens: without delays, and without a connection lost when it closes."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import fcntl
import socket
import struct
import termios
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_entrypoint.errors import EntrypointError

from mlflow_model_server import addresses

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
"""Offset in tcp_info (linux/tcp.h) of, for a socket that listens, the length of its queue."""
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""The sockets of the network namespace: number, local and remote address, state, and more."""
_ABSENT = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""Errors by which a machine has no IPv6."""
_SYN_RECEIVED = "03"


def listen(host: str, port: int, user_timeout: int) -> socket.socket:
    """Listen on a port.

    Args:
        host: an address of this machine; empty for IPv6 and IPv4, as far as there are both.
        port: TCP's.
        user_timeout: seconds after which the kernel ends a connection whose client acknowledges
            nothing, or makes no room for more (TCP_USER_TIMEOUT; RFC 5482): the event loop would
            keep an answer for it without limit.

    asyncio sets TCP_NODELAY on accepted sockets only where the listening one says that it is TCP's:
    otherwise an answer in two writes waits 40 ms for the client's delayed acknowledgement.

    Raises:
        EntrypointError: it can't be had.
    """
    try:
        if host != addresses.EVERYWHERE:
            return _bound(host, port, user_timeout, alone=True)
        try:
            # IPv4's clients come to it by addresses that are mapped (RFC 4291, 2.5.5.2).
            return _bound(addresses.IPV6, port, user_timeout, alone=False)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
        return _bound(addresses.IPV4, port, user_timeout, alone=True)
    except OSError as error:
        where = f"port {port}{f' of {host}' if host else ''}"
        raise EntrypointError(
            f"{where} can't be listened on: {error.strerror}; MLFLOW_MODELS_PORT sets another port,"
            f" and {addresses.HOST} another address"
        ) from error


def _bound(host: str, port: int, user_timeout: int, *, alone: bool) -> socket.socket:
    """A socket that listens; of IPv6 with IPv4's clients, unless `alone`."""
    numeric = socket.AI_NUMERICHOST | socket.AI_PASSIVE
    [(family, kind, protocol, _, address)] = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=numeric
    )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Milliseconds; connections have it from the socket that accepts them.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, user_timeout * 1000)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, alone)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
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
    with socket.socket(listener.family) as plug:
        plug.settimeout(0)
        if await _fills(listener, plug) and not _handshakes(listener):
            listener.close()
            return True
    listener.listen(_BACKLOG)
    return False


async def _fills(listener: socket.socket, plug: socket.socket) -> bool:
    """Connect, and see whether it is the one connection that waits to be accepted."""
    with contextlib.suppress(OSError):  # it doesn't wait; and there may be no loopback
        plug.connect(_reached(listener))
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


def _reached(listener: socket.socket) -> tuple[str | int, ...]:
    """Find the address at which a connection of our own gets to a socket that listens."""
    host, *rest = listener.getsockname()
    if host == addresses.IPV6 and not listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return ("::ffff:127.0.0.1", *rest)
    return (addresses.asked(host)[0], *rest)


def _waiting(listener: socket.socket) -> int | None:
    """Count connections that wait to be accepted; None under QEMU, which tells less of tcp_info."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
    if len(info) < _INFO_UNACKED + 4:
        return None
    (waiting,) = struct.unpack_from("I", info, _INFO_UNACKED)
    return int(waiting)


def _handshakes(listener: socket.socket) -> bool:
    """Tell whether clients of this port are between SYN and the queue."""
    port = f":{listener.getsockname()[1]:04X}"
    tables = [table.read_text("ascii") for table in _TABLES if table.exists()]
    sockets = (line.split(maxsplit=4) for table in tables for line in table.splitlines())
    return any(local.endswith(port) and state == _SYN_RECEIVED for _, local, _, state, _ in sockets)
