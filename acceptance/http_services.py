"""A common interface of tracking servers and models' servers, for tests of HTTP alone."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from seatrial.wire.cases import WireTarget
from seatrial.wire.exchange import HTTPAddress

from .serving import JSON, SCRIPTABLE, with_parameters

if TYPE_CHECKING:
    from seatrial.stack.running_server import RunningServer
    from seatrial.stack.server import MLflowServer
    from seatrial.trial.model_cases import Payload
    from seatrial.trial.model_serving import ModelServers

REACHED_WITHIN = 3.0
"""Seconds: elsewhere than on Linux, containers have addresses that nobody answers on."""


@dataclass(frozen=True)
class HttpService:
    """A server under test, and where a client on this host finds it."""

    server: RunningServer
    target: WireTarget

    @property
    def direct(self) -> WireTarget:
        """The container's own address, or the published one where this host has no route to it.

        The engine's proxy for published ports has limits of its own: with 20 000 open files, it
        ends at 5 700 connections.
        """
        container = self.server.container
        container.reload()
        port = self.server.image.contract.start.port
        for network in container.attrs["NetworkSettings"]["Networks"].values():
            address = HTTPAddress(network["IPAddress"], port)
            with suppress(OSError), socket.create_connection(address, timeout=REACHED_WITHIN):
                return replace(self.target, address=address)
        return self.target

    @property
    def scale(self) -> int:
        """The factor of every time limit."""
        return self.server.image.scale

    def log_lines(self) -> list[str]:
        """The whole log."""
        return self.server.container.logs().decode(errors="replace").splitlines()


class StartService(Protocol):
    """Start a server for one test; it is removed when the test ends."""

    def __call__(self) -> HttpService:
        """Start the server, and wait until it is ready."""


def tracking_service(server: MLflowServer) -> HttpService:
    """Describe MLflow's own server."""
    target = WireTarget(
        address_of(server),
        health="/health",
        action="/api/2.0/mlflow/experiments/search",
        content_type="application/json",
        payload=b'{"max_results": 1}',
        # Flask, behind MLflow's WSGI middleware, sees no body without a length.
        in_chunks=None,
    )
    return HttpService(server, target)


def model_service(server: RunningServer, model: str, serving: ModelServers) -> HttpService:
    """Describe a server of a model."""
    content_type, body = _small_input(model, serving)
    target = WireTarget(
        address_of(server),
        health="/ping",
        action="/invocations",
        content_type=content_type,
        payload=body.encode(),
    )
    return HttpService(server, target)


def address_of(server: RunningServer) -> HTTPAddress:
    """Read the address at which a server answers on this host."""
    parts = urlsplit(server.url)
    assert parts.hostname, f"the trial is at fault: its server's URL {server.url!r} has no host"
    assert parts.port, f"the trial is at fault: its server's URL {server.url!r} has no port"
    return HTTPAddress(parts.hostname, parts.port)


def _small_input(model: str, serving: ModelServers) -> tuple[str, str]:
    """Find an input of few bytes: some cases send each byte in a chunk of its own."""
    if model == SCRIPTABLE:
        return JSON, with_parameters()

    def size(payload: Payload) -> int:
        return len(payload.body)

    smallest = min(serving.cases[model].payloads.values(), key=size)
    return smallest.content_type, smallest.body
