"""Ask the running server for its health, where it really listens.

The process table says where: the server's own process has its address in its arguments and the
prefix of its paths in its environment, or it has left a note of both. This runs every few seconds,
so it loads little: no pathlib, no HTTP client.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import NamedTuple

from mlflow_entrypoint.processes import PREFIX, announced, serves

TIME_LIMIT = 5
"""Seconds for the answer."""
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


class Address(NamedTuple):
    """Address at which a server is asked."""

    host: str
    port: int
    path: str
    encrypted: bool


def main() -> int:
    """Print one line, and give back 0 for a healthy server and 1 for anything else."""
    address = find()
    if address is None:
        print("unhealthy: no server is running")
        return 1
    try:
        status = ask(address)
    except OSError as error:
        status = str(error)
    good = status == "200"
    where = f"{address.host} port {address.port}, {address.path}"
    print(f"{'healthy' if good else 'unhealthy'}: {where}: {status}")
    return 0 if good else 1


def find(table: str = "/proc") -> Address | None:
    """The address of the server that runs here; None where none does."""
    for pid in sorted((name for name in os.listdir(table) if name.isdigit()), key=int):  # noqa: PTH208
        try:
            arguments = _words(f"{table}/{pid}/cmdline")
            if serves(arguments):
                return _address(arguments, _words(f"{table}/{pid}/environ"))
            if note := announced(f"{table}/{pid}"):
                return _address(note, note)
        except (OSError, ValueError):
            continue  # it has ended meanwhile, is somebody else's, or listens on no port
    return None


def _words(path: str) -> list[str]:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read().decode(errors="replace").split("\0")


def _address(arguments: list[str], environment: list[str]) -> Address:
    host = _last(arguments, "--host") or ""
    port = _last(arguments, "--port") or ""
    if bind := _last(arguments, "-b"):
        host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    prefixes = (word.partition("=")[2] for word in environment if word.startswith(f"{PREFIX}="))
    return Address(
        host=_EVERYWHERE.get(host, host),
        port=int(port),
        path=f"{next(prefixes, '')}/health",
        encrypted=any(word.startswith(("--ssl-certfile", "--certfile")) for word in arguments),
    )


def _last(arguments: list[str], option: str) -> str | None:
    """The last value that an option is given: the one that counts."""
    found = None
    for index, word in enumerate(arguments):
        if word == option and index + 1 < len(arguments):
            found = arguments[index + 1]
        elif word.startswith(f"{option}="):
            found = word.partition("=")[2]
    return found


def ask(address: Address) -> str:
    """The status with which the server answers.

    Raises:
        OSError: it doesn't answer in time.
    """
    with socket.create_connection((address.host, address.port), TIME_LIMIT) as plain:
        stream = _encrypt(plain) if address.encrypted else plain
        request = f"GET {address.path} HTTP/1.0\r\nHost: localhost\r\n\r\n"
        stream.sendall(request.encode())
        line = stream.recv(64).split(b"\r\n")[0].decode(errors="replace")
    words = line.split()
    return words[1] if len(words) > 1 else f"no HTTP answer: {line!r}"


def _encrypt(plain: socket.socket) -> socket.socket:
    """The server is this container: whether its certificate is valid is for its clients to see."""
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


if __name__ == "__main__":
    sys.exit(main())
