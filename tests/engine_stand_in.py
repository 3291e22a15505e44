"""A plugin for a pytest of its own: in place of a container engine, a file that notes each request.

The file is that of the variable LOG. BROKEN names what does not start: `services`, or the settings
of a server. HANGING names what starts for as long as its container is there.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from docker.errors import NotFound

from seatrial.backends.base import ServiceAddress
from seatrial.engine.waiting import ContainerError
from seatrial.errors import UserError
from seatrial.stack import services
from seatrial.stack.image_under_test import ImageConfiguration
from seatrial.stack.server import MLflowServer
from seatrial.trial import pool, ryuk, service_images, session, sources

NATIVE = "linux/amd64"


def note(line: str) -> None:
    """Add a line, whichever process it is."""
    with Path(os.environ["LOG"]).open("a", encoding="utf-8") as log:
        log.write(f"{line}\n")


def start(name: str) -> None:
    """Note a start, which fails where it is to."""
    note(f"start {name}")
    while name == os.environ.get("HANGING"):
        if "remove containers" in Path(os.environ["LOG"]).read_text(encoding="utf-8"):
            raise ContainerError(f"{name} was removed", "")
        time.sleep(0.05)
    if name == os.environ.get("BROKEN"):
        raise ContainerError(f"{name} exited with code 1", "the last line")


class StandInContainer:
    """A container that is gone when somebody looks."""

    def __init__(self, name: str) -> None:
        self.id = self.name = name

    def reload(self) -> None:
        """Find it gone."""
        raise NotFound(self.name)

    def remove(self, **_: object) -> None:
        """Remove nothing."""


def connect() -> Any:
    """Give back as much of a client as is used."""
    note("connect")
    return SimpleNamespace(
        close=lambda: None,
        api=SimpleNamespace(tag=lambda *_: True),
        networks=SimpleNamespace(create=lambda *_, **__: note("create network")),
        containers=SimpleNamespace(get=StandInContainer),
        images=SimpleNamespace(list=lambda _: [object()]),
    )


def configuration_of(_client: object, _session: object, reference: str, _: str) -> object:
    """Engine with one image only."""
    note(f"inspect {reference}")
    if reference != "made/up:1":
        return None
    return ImageConfiguration("sha256:1", ("mlflow",), {}, {}, "/", (5000,))


def pull(_client: object, reference: str, _platform: str) -> None:
    """Nothing else can be had."""
    raise UserError(f"image '{reference}' can't be pulled")


class StartedServer(MLflowServer):
    """Engine without a container."""

    def wait_healthy(self) -> None:
        """Fail where it is to."""
        start(self.settings.name)

    def takes_artifacts(self) -> bool:
        """Take everything."""
        return True


def start_server(*, session: object, name: str, running: Any, **given: Any) -> MLflowServer:  # noqa: ARG001
    """Give back a server that is noted when it is waited for."""
    container: Any = StandInContainer(name)
    return StartedServer(**given, services=running, container=container)


class ServiceStarter:
    """Containers of the trial."""

    def __init__(self, *_: object) -> None:
        pass

    def start(self) -> services.Services:
        """Note it."""
        start("services")
        return services.Services({"postgresql": ServiceAddress(1, "10.0.0.1", "user", "password")})


def pytest_configure() -> None:
    """Take the engine's place."""
    replaced: Any
    for replaced in (service_images, session, sources):
        replaced.native_platform = lambda: NATIVE
    everything: Any = SimpleNamespace(session=session, sources=sources, pool=pool, ryuk=ryuk)
    everything.ryuk.configure = lambda _: None
    everything.session.connect = connect
    everything.session.require_platform = lambda _: None
    everything.session.remove_abandoned = lambda _: []
    everything.session.remove_session = lambda *_: note("remove session")
    everything.sources.configuration_of = configuration_of
    everything.sources.pull = pull
    for replaced in (pool, session):
        replaced.remove_containers = lambda *_: note("remove containers")
    everything.pool.ServiceStarter = ServiceStarter
    backend = SimpleNamespace(create=lambda _: None)
    everything.pool.services = SimpleNamespace(
        database=lambda *_: backend, store=lambda *_: backend
    )
    everything.pool.start_server = start_server
    everything.pool.prepare_volume = lambda *_: None
