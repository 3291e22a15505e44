"""Requests by the HTTP clients that people use, each as its documentation shows it."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import requests

from seatrial import process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

COUNT = 200
"""Requests that each client sends."""
SECONDS = 60
"""Time to send them; a request that is not sent by then counts as failed."""
REQUEST_LIMIT = 5.0
"""Seconds until a request counts as failed."""
STARTING = 120
"""Further seconds, for compilers and interpreters to start."""
_SOURCES = Path(__file__).parent / "clients"
_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class HttpClient:
    """An HTTP client that sends `COUNT` requests with a body to an address."""

    name: str
    needs: str
    """A program, or a module of Python where the name ends in a dot; empty for none."""
    send: Callable[[str, str], int]
    """Function of address and body; returns the number of answers 200."""

    @property
    def is_there(self) -> bool:
        """Tell whether this machine has the client."""
        if self.needs.endswith("."):
            return importlib.util.find_spec(self.needs.rstrip(".")) is not None
        return not self.needs or shutil.which(self.needs) is not None


def _printed(command: list[str], **variables: str) -> int:
    """Run a client and read the number that it prints last; 0 where it fails."""
    try:
        done = process.run(
            command, environment={**os.environ, **variables}, seconds=SECONDS + STARTING
        )
    except subprocess.TimeoutExpired:
        return 0
    lines = done.stdout.split()
    return int(lines[-1]) if done.returncode == 0 and lines else 0


def _java(url: str, body: str) -> int:
    source = str(_SOURCES / "Client.java")
    return _printed(["java", source, url, body, str(COUNT), str(SECONDS)])


def _go(url: str, body: str) -> int:
    source = str(_SOURCES / "client.go")
    settings = {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GO111MODULE": "off"}
    return _printed(["go", "run", source, url, body, str(COUNT), str(SECONDS)], **settings)


def _curl(*options: str) -> Callable[[str, str], int]:
    def send(url: str, body: str) -> int:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(body)
            file.flush()
            command = [
                *("curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}\n"),
                *("--max-time", str(REQUEST_LIMIT), "--header", "Content-Type: application/json"),
                *("--data-binary", f"@{file.name}", *options, f"{url}?number=[1-{COUNT}]"),
            ]
            try:
                done = process.run(command, seconds=SECONDS)
            except subprocess.TimeoutExpired as over:
                printed = over.stdout or b""
                return printed.decode().split().count("200")
        return done.stdout.split().count("200")

    return send


def _until() -> Iterator[None]:
    """Yield for each request, until the time is over."""
    end = time.monotonic() + SECONDS
    for _ in range(COUNT):
        if time.monotonic() >= end:
            return
        yield


def _count(send: Callable[[], int], failure: type[Exception]) -> int:
    """Count the requests that are answered with 200.

    Args:
        send: sends a request and returns the status of its answer.
        failure: what it raises where there is no answer.
    """
    good = 0
    for _ in _until():
        with suppress(failure):
            good += send() == HTTPStatus.OK
    return good


def _requests(url: str, body: str) -> int:
    with requests.Session() as session:
        post = partial(session.post, url, body, headers=_HEADERS, timeout=REQUEST_LIMIT)
        return _count(lambda: post().status_code, requests.RequestException)


def _urllib(url: str, body: str) -> int:
    request = urllib.request.Request(url, body.encode(), _HEADERS)

    def send() -> int:
        with urllib.request.urlopen(request, timeout=REQUEST_LIMIT) as answer:
            answer.read()
            return int(answer.status)

    return _count(send, OSError)  # URLError is one


def _httpx(url: str, body: str) -> int:
    # Not among what the project needs: tried where it is installed.
    httpx: Any = importlib.import_module("httpx")
    with httpx.Client(timeout=REQUEST_LIMIT, headers=_HEADERS) as client:
        return _count(lambda: int(client.post(url, content=body).status_code), httpx.HTTPError)


def _aiohttp(url: str, body: str) -> int:
    async def send() -> int:
        good = 0
        limit = aiohttp.ClientTimeout(total=REQUEST_LIMIT)
        async with aiohttp.ClientSession(timeout=limit) as session:
            for number, _ in enumerate(_until()):
                # aiohttp sends a body of unknown length in chunks: try both forms.
                data = _pieces(body) if number % 2 else body.encode()
                try:
                    async with session.post(url, data=data, headers=_HEADERS) as answer:
                        await answer.read()
                        good += answer.status == HTTPStatus.OK
                except (aiohttp.ClientError, TimeoutError):
                    continue
        return good

    return asyncio.run(send())


async def _pieces(body: str) -> AsyncIterator[bytes]:
    for piece in (body[:10], body[10:]):
        yield piece.encode()


CLIENTS = (
    HttpClient("JDK java.net.http", "java", _java),
    HttpClient("curl --http1.1", "curl", _curl("--http1.1")),
    HttpClient("curl --http2", "curl", _curl("--http2")),
    HttpClient("curl, Expect: 100-continue", "curl", _curl("--header", "Expect: 100-continue")),
    HttpClient("Go net/http", "go", _go),
    HttpClient("Python requests", "", _requests),
    HttpClient("Python urllib", "", _urllib),
    HttpClient("Python httpx", "httpx.", _httpx),
    HttpClient("Python aiohttp", "", _aiohttp),
)
