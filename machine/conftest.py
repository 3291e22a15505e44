"""Machines to set up: containers of a plain Debian, each with an engine of its own.

The engine of this machine only runs them: what is set up, started, stopped and undone is inside.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from docker.types import Mount

from machine import ROOT
from machine.container import Machine
from seatrial import scratch
from seatrial.build import bootstrap
from seatrial.engine import trust
from seatrial.engine.connection import connect
from seatrial.stack.labels import Session, remove_abandoned, remove_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient
    from docker.models.containers import Container

SUITE = "bookworm"
"""A Debian whose own engine is too old, so that all of setup has something to do."""
PACKAGES = "busybox-static,ca-certificates,procps,python3"
BUNDLE = "/usr/local/share/authorities.pem"


@pytest.fixture(scope="session")
def client() -> Iterator[DockerClient]:
    """The engine of this machine."""
    with closing(connect()) as found:
        remove_abandoned(found)
        yield found


@pytest.fixture(scope="session")
def session(client: DockerClient) -> Iterator[Session]:
    """Session that labels everything that is started here."""
    begun = Session.begin()
    begun.create_network(client)
    yield begun
    remove_session(client, begun)


@pytest.fixture(scope="session")
def debian(session: Session) -> str:
    """The image of a machine on which nothing has been set up."""
    if Path(sys.base_prefix) == Path("/usr"):
        pytest.skip("this Python is the distribution's own, and can't be mounted into another one")
    name = session.image_name("machine", "debian")
    with scratch.folder() as folder:
        folder.chmod(0o711)
        archive = folder / "root.tar"
        sources = bootstrap.sources(bootstrap.index_targets(), SUITE)
        make = ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(archive)]
        for command in ([*make, *sources], ["docker", "import", str(archive), name]):
            subprocess.run(command, check=True, capture_output=True)
    return name


@pytest.fixture(scope="session")
def engine(client: DockerClient, session: Session, debian: str) -> str:
    """The image of a machine on which an engine is installed, and none has ever run."""
    machine = Machine(_start(client, session, debian))
    result = machine.setup()
    assert result.code == 0, result.output
    machine.stop_engine()
    machine.do("rm -rf /var/lib/seatrial /var/log/seatrial* /etc/docker/daemon.json")
    name = session.image_name("machine", "engine")
    repository, _, tag = name.partition(":")
    machine.container.commit(repository, tag)
    machine.container.remove(force=True, v=True)
    return name


@pytest.fixture
def fresh(client: DockerClient, session: Session, debian: str) -> Iterator[Machine]:
    """A machine without an engine."""
    yield from _machine(client, session, debian)


@pytest.fixture
def stopped(client: DockerClient, session: Session, engine: str) -> Iterator[Machine]:
    """A machine with an engine that does not run, and no settings for it."""
    yield from _machine(client, session, engine)


def _machine(client: DockerClient, session: Session, image: str) -> Iterator[Machine]:
    container = _start(client, session, image)
    yield Machine(container)
    container.remove(force=True, v=True)


def _start(client: DockerClient, session: Session, image: str) -> Container:
    readable = {ROOT, Path(sys.prefix), Path(sys.base_prefix)}
    volumes = {str(path): {"bind": str(path), "mode": "ro"} for path in readable}
    environment = {}
    if bundle := trust.bundle():
        volumes[str(bundle.resolve())] = {"bind": BUNDLE, "mode": "ro"}
        environment["SSL_CERT_FILE"] = BUNDLE
    return client.containers.run(
        image,
        ["busybox", "sleep", "3600"],
        detach=True,
        environment=environment,
        # Reaps what an engine leaves, as the first process of a machine does.
        init=True,
        labels=session.labels,
        network=session.network,
        privileged=True,
        volumes=volumes,
        # overlayfs takes no folder that lies in an overlay itself.
        mounts=[Mount("/var/lib/docker", None)],
    )
