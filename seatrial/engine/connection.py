"""Connection to the container engine, and the platforms that it runs.

The engine is found as the docker client finds it: DOCKER_HOST, then DOCKER_CONTEXT, then the
context that `docker context use` chose, then the local socket.
"""

from __future__ import annotations

import os
import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import docker
from docker.context.config import get_current_context_name
from docker.errors import DockerException
from requests.exceptions import RequestException

from seatrial import process
from seatrial.engine.machine_speed import MACHINE_SPEED
from seatrial.errors import UserError
from seatrial.project import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docker import DockerClient

PLATFORMS = ("linux/amd64", "linux/arm64")
DEFAULT_SOCKET = "unix:///var/run/docker.sock"
_PROBE_SECONDS = 10
_REQUEST_SECONDS = 60


@dataclass(frozen=True)
class EngineEndpoint:
    """Address of the engine, and the setting that it comes from."""

    url: str
    source: str
    """`DOCKER_HOST`, `context NAME` or `default`."""

    @property
    def configured(self) -> bool:
        """Tell whether a setting chooses another engine than this machine's own."""
        return self.source != "default" and self.url != DEFAULT_SOCKET

    @property
    def socket(self) -> Path | None:
        """Path of the engine's socket; None for an engine elsewhere."""
        return Path(self.url.removeprefix("unix://")) if self.url.startswith("unix://") else None

    def __str__(self) -> str:
        return self.url if self.source == "default" else f"{self.url} ({self.source})"


def endpoint() -> EngineEndpoint:
    """Find where the engine should be.

    Raises:
        UserError: the chosen docker context does not exist.
    """
    if url := os.environ.get("DOCKER_HOST"):
        return EngineEndpoint(url, "DOCKER_HOST")
    name = os.environ.get("DOCKER_CONTEXT") or get_current_context_name()
    if name == "default":
        return EngineEndpoint(DEFAULT_SOCKET, "default")
    # The docker SDK 7.2 finds no context without a config.json beside them, so ask the client.
    host = _context(name, "{{.Endpoints.docker.Host}}")
    if not host:
        raise UserError(f"the docker context {name!r} does not exist: see `docker context ls`")
    return EngineEndpoint(host, f"context {name}")


def connect() -> DockerClient:
    """Connect to the engine.

    Where a docker context other than the default one is in use, DOCKER_HOST is set to its
    endpoint, so that testcontainers, python-on-whales and every subprocess use the same engine.

    Returns:
        A client of the docker SDK, which the caller closes.

    Raises:
        UserError: no engine answers, or it may not be used by this user.
    """
    target = endpoint()
    _export(target)
    try:
        # Two clients: a host that drops packets must not block for a minute, but a request to a
        # busy engine may take that long.
        with closing(docker.from_env(timeout=_PROBE_SECONDS, use_ssh_client=True)) as probe:
            probe.ping()
        limit = _REQUEST_SECONDS * MACHINE_SPEED.factor
        return docker.from_env(timeout=limit, use_ssh_client=True)
    except (DockerException, RequestException, OSError) as error:
        raise UserError(_unreachable(target)) from error


def _context(name: str, template: str) -> str | None:
    return process.output(["docker", "context", "inspect", f"--format={template}", name])


def _export(target: EngineEndpoint) -> None:
    if not target.source.startswith("context "):
        return
    os.environ["DOCKER_HOST"] = target.url
    name = target.source.removeprefix("context ")
    stored = _context(name, "{{.Storage.TLSPath}}")
    certificates = Path(stored or "", "docker")
    if stored and certificates.is_dir():
        os.environ["DOCKER_CERT_PATH"] = str(certificates)
        os.environ["DOCKER_TLS_VERIFY"] = "1"


def _unreachable(target: EngineEndpoint) -> str:
    if (path := target.socket) and path.exists() and not os.access(path, os.W_OK):
        return (
            f"the container engine at {target} may not be used by this user: add it to the group "
            "that owns the socket (usually docker) and log in again"
        )
    if target.configured:
        return f"no container engine answers at {target}: start it, or unset {target.source}"
    return f"no container engine answers at {target}: run {command('setup')}"


def native_platform() -> str:
    """Tell the engine's own platform.

    Returns:
        `linux/amd64` or `linux/arm64`.

    Raises:
        UserError: no engine answers, or its architecture is neither.
    """
    with closing(connect()) as client:
        version = client.version()
    platform = f"{version['Os']}/{version['Arch']}"
    if platform not in PLATFORMS:
        raise UserError(
            f"the container engine runs {platform}, the images are for {' and '.join(PLATFORMS)}"
        )
    return platform


def runnable_platforms() -> frozenset[str]:
    """Find the platforms that the engine runs, natively or emulated.

    BuildKit tries a small program of each architecture before it lists it, anew at each question:
    its answer holds for containers as well, which run under the same kernel.

    Returns:
        A subset of `PLATFORMS`; the native one alone where buildx is missing.

    Raises:
        UserError: no engine answers.
    """
    native = native_platform()
    # `default` is the builder inside the engine itself; the one chosen with `docker buildx use`
    # may be elsewhere and says nothing about what containers can run here.
    inspection = process.output(["docker", "buildx", "inspect", "default"])
    listed = re.search(r"^Platforms:(.*)$", inspection, re.MULTILINE) if inspection else None
    names = {name.strip(" *") for name in listed[1].split(",")} if listed else set()
    return frozenset({native} | (names & set(PLATFORMS)))


def require_platform(platform: str) -> None:
    """Make sure that containers of a platform run on the engine.

    Args:
        platform: `linux/amd64` or `linux/arm64`.

    Raises:
        UserError: they don't; says how to mend it.
    """
    if platform not in runnable_platforms():
        raise UserError(
            f"{platform} does not run on this engine ({native_platform()}): "
            f"run {command('setup')} as root on the engine's machine to register emulation"
        )


def resolve_platforms(option: str) -> tuple[str, ...]:
    """Turn the value of `--platform` into platforms.

    Args:
        option: native, amd64, arm64, all, linux/amd64 or linux/arm64.

    Returns:
        One or two of `PLATFORMS`.

    Raises:
        UserError: the option names no platform, or is `native` and no engine answers.
    """
    if option == "native":
        return (native_platform(),)
    if option == "all":
        return PLATFORMS
    platform = option if option.startswith("linux/") else f"linux/{option}"
    if platform not in PLATFORMS:
        known: Sequence[str] = ("native", "amd64", "arm64", "all")
        raise UserError(f"unknown platform {option!r}: known are {', '.join(known)}")
    return (platform,)
