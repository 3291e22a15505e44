"""Facts about this machine and its engine, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from seatrial.engine.connection import EngineEndpoint


@dataclass(frozen=True)
class System:
    """The operating system."""

    name: str
    """Name for people, such as `Debian GNU/Linux 12 (bookworm)` or `macOS`."""
    identity: str = ""
    """ID of os-release, such as `debian`."""
    codename: str = ""
    """VERSION_CODENAME of os-release, such as `bookworm`."""
    version: int | None = None
    """The major part of VERSION_ID; None where there is none, as on Debian unstable."""
    systemd: bool = False
    """True if systemd runs; it may be installed and not run."""
    packages: frozenset[str] = frozenset()
    """Installed packages that bring an engine: docker.io, docker-ce."""


@dataclass(frozen=True)
class Client:
    """The docker command and its plugins; a version is empty where that part is missing."""

    path: str = ""
    version: str = ""
    buildx: str = ""
    compose: str = ""
    fault: str = ""
    """Reason why the command can't use an engine that answers."""
    podman: bool = False
    """True if the command is podman-docker's."""


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
    """Content of the file; None where it doesn't exist or can't be used."""
    fault: str = ""


@dataclass(frozen=True)
class Data:
    """Data of an engine that does not run, in a store on this machine's disk."""

    folder: Path
    store: str
    """The storage driver, or `containerd's store`; empty where there are no images."""
    contents: str
    """Summary, such as `3 images, 1 container`."""

    @property
    def containerd(self) -> bool:
        """Tell whether an engine with the containerd image store finds the data."""
        return self.store in ("", CONTAINERD_STORE)

    def __str__(self) -> str:
        store = f" ({self.store})" if self.store else ""
        return f"{self.contents} in {self.folder}{store}"


CONTAINERD_STORE = "containerd's store"


@dataclass(frozen=True)
class Facts:
    """Everything that a plan and a report are made from."""

    system: System
    root: bool
    platform: str
    """Platform of this machine, which may differ from the engine's."""
    endpoint: EngineEndpoint
    configuration: Configuration
    client: Client
    engine: Engine | None
    silence: str = ""
    """Reason why no engine answers, on one line."""
    dockerd: str = ""
    """Version of the daemon's program on this machine."""
    data: tuple[Data, ...] = ()
    """Data of an engine that does not run; empty where an engine answers."""
    started: bool = False
    """True if setup has started an engine here as a process, which a reboot ends."""
    emulated: frozenset[str] = frozenset()
    """Foreign platforms whose programs this machine's kernel runs."""
    emulators: frozenset[str] = frozenset()
    """Foreign platforms that an installed QEMU could run."""
    interpreters: Mapping[str, str] = field(default_factory=dict)
    """Registered interpreter of each platform, for the table."""
    tools: frozenset[str] = frozenset()
    """Installed programs of those that bootstrap base images."""
    registries: Mapping[str, bool] = field(default_factory=dict)
    """By host: true if it answers."""
    authorities: tuple[str, ...] = ()
    """Private certificate authorities."""
    bundle: Path | None = None
    free: int | None = None
    """Bytes left where the engine keeps its data; None where that is another machine's."""
