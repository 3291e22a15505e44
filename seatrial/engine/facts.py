"""What is known about this machine and its engine: plain values, no questions asked here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from seatrial.engine.connection import Endpoint


@dataclass(frozen=True)
class System:
    """The operating system."""

    name: str
    """For people, such as `Debian GNU/Linux 12 (bookworm)` or `macOS`."""
    identity: str = ""
    """ID of os-release, such as `debian`."""
    codename: str = ""
    """VERSION_CODENAME of os-release, such as `bookworm`."""
    version: int | None = None
    """The major part of VERSION_ID; None where there is none, as on Debian unstable."""
    systemd: bool = False
    """Whether systemd runs, not only whether it is installed."""
    packages: frozenset[str] = frozenset()
    """Which packages that bring an engine are installed: docker.io, docker-ce."""


@dataclass(frozen=True)
class Client:
    """The docker command and its plugins; a version is empty where that part is missing."""

    path: str = ""
    version: str = ""
    buildx: str = ""
    compose: str = ""
    fault: str = ""
    """Why the command can't talk with an engine that does answer."""
    podman: bool = False
    """Whether it is podman-docker's."""


@dataclass(frozen=True)
class Engine:
    """The engine that answers."""

    version: str
    platform: str
    containerd_store: bool
    data_root: Path
    cores: int
    memory: int
    """Bytes."""
    runs: frozenset[str]
    """Platforms, native and emulated."""


@dataclass(frozen=True)
class Configuration:
    """The daemon's configuration file."""

    path: Path
    settings: Mapping[str, object] | None
    """None where the file doesn't exist or can't be used."""
    fault: str = ""


@dataclass(frozen=True)
class Data:
    """What an engine that does not run keeps on this machine's disk, in one store."""

    folder: Path
    store: str
    """The storage driver, or `containerd's store`; empty where there are no images."""
    contents: str
    """Such as `3 images, 1 container`."""

    @property
    def containerd(self) -> bool:
        """Whether an engine finds it with the containerd image store switched on."""
        return self.store in ("", CONTAINERD_STORE)

    def __str__(self) -> str:
        store = f" ({self.store})" if self.store else ""
        return f"{self.contents} in {self.folder}{store}"


CONTAINERD_STORE = "containerd's store"


@dataclass(frozen=True)
class Facts:
    """All of it."""

    system: System
    root: bool
    platform: str
    """This machine's own, `linux/amd64` or `linux/arm64`, whatever the engine's is."""
    endpoint: Endpoint
    configuration: Configuration
    client: Client
    engine: Engine | None
    silence: str = ""
    """Why no engine answers, as one line."""
    dockerd: str = ""
    """Version of the daemon's program on this machine."""
    data: tuple[Data, ...] = ()
    """Where no engine answers: what one would find, or not find, if it was started."""
    started: bool = False
    """Whether setup has started an engine here before, as a process: a reboot has ended it."""
    emulated: frozenset[str] = frozenset()
    """Foreign platforms whose programs this machine's kernel runs."""
    emulators: frozenset[str] = frozenset()
    """Foreign platforms that an installed QEMU could run."""
    interpreters: Mapping[str, str] = field(default_factory=dict)
    """Platform to what is registered for it, for the table."""
    tools: frozenset[str] = frozenset()
    """Which of the programs that bootstrap base images are installed."""
    registries: Mapping[str, bool] = field(default_factory=dict)
    """Host to whether it answers."""
    authorities: tuple[str, ...] = ()
    """Private certificate authorities."""
    bundle: Path | None = None
    free: int | None = None
    """Bytes left where the engine keeps its data; None where that is another machine's."""
