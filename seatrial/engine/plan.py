"""Conclusions from the facts: missing parts, their remedies, and the steps of setup.

Nothing here reads the machine or changes it.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seatrial.engine.connection import PLATFORMS
from seatrial.engine.packages import Family, family
from seatrial.project import command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seatrial.engine.facts import Facts

OLDEST_ENGINE = 24
"""The first major version with the containerd image store."""
STORE_SETTING = '"features": {"containerd-snapshotter": true}'

_GIB = 1024**3
_FREE_WANTED = 20 * _GIB
_FREE_NEEDED = 4 * _GIB
_MEMORY_WANTED = 4 * _GIB


class CheckState(enum.Enum):
    """Result of a check."""

    FINE = "fine"
    NOTE = "note"
    FAULT = "fault"
    """The main job can't run."""


@dataclass(frozen=True)
class Check:
    """A part that the main job needs: a row of the report."""

    subject: str
    state: CheckState
    detail: str
    mend: str = ""

    def __str__(self) -> str:
        named = self.subject in self.detail
        text = self.detail if named else f"{self.subject}: {self.detail}"
        return f"{text}; {self.mend}" if self.mend else text


@dataclass(frozen=True)
class Plan:
    """Steps of setup on this machine, in their order."""

    configure: bool = False
    packages: tuple[str, ...] = ()
    """Names of the distribution, without the suite."""
    start: bool = False
    register: tuple[str, ...] = ()
    """Platforms to emulate."""

    def __bool__(self) -> bool:
        return bool(self.configure or self.packages or self.start or self.register)


def plan(facts: Facts, *, over_data: bool = False) -> Plan:
    """Plan the steps of setup: only missing parts, and only on a machine that setup may change.

    That is: root on Debian or Ubuntu, with no other engine chosen by DOCKER_HOST or a context, and
    no Podman in the place of one.

    Args:
        facts: about the machine.
        over_data: start an engine where one that does not run has left data. Somebody has stopped
            it, and other settings would hide its images: unasked, nothing at all is done, unless
            it was setup that started it: without systemd each reboot ends it.
    """
    packages = family(facts.system)
    if packages is None or not facts.root or facts.endpoint.configured or facts.client.podman:
        return Plan()
    start = facts.engine is None
    known = facts.started and all(data.containerd for data in facts.data)
    if start and (facts.configuration.fault or (facts.data and not (over_data or known))):
        return Plan()
    return Plan(
        # A running engine keeps its settings: a restart would end other people's containers.
        configure=start
        and facts.configuration.settings is None
        and all(data.containerd for data in facts.data),
        packages=_packages(facts, packages),
        start=start,
        register=tuple(name for name in PLATFORMS if name in _foreign(facts) - facts.emulated),
    )


def is_left_alone(facts: Facts) -> bool:
    """Tell whether only the data of an engine that does not run keeps setup from its work."""
    return bool(facts.data) and not plan(facts) and bool(plan(facts, over_data=True))


def _packages(facts: Facts, packages: Family) -> tuple[str, ...]:
    wanted: list[str] = []
    # Docker's own packages are the user's choice; Debian's would replace them.
    if "docker-ce" not in facts.system.packages:
        if facts.engine is None and _major(facts.dockerd) < OLDEST_ENGINE:
            wanted += packages.engine
        if not facts.client.path:
            wanted += packages.client
        if not facts.client.buildx:
            wanted += packages.buildx
        if not facts.client.compose:
            wanted += packages.compose
    if _foreign(facts) - facts.emulated - facts.emulators:
        wanted += packages.emulator
    if not _registry(facts):
        wanted += [tool for tool in packages.bootstrap if tool not in facts.tools]
    return tuple(dict.fromkeys(wanted))


def _foreign(facts: Facts) -> frozenset[str]:
    return frozenset(PLATFORMS) - {facts.platform}


def _registry(facts: Facts) -> bool:
    return facts.registries.get("docker.io", False)


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0


def checks(facts: Facts) -> tuple[Check, ...]:
    """Judge every part that the main job needs, in the order of the report."""
    return (
        *_configuration(facts),
        _engine(facts),
        *_client(facts),
        *_store(facts),
        *_platforms(facts),
        _bases(facts),
        _registries(facts),
        _authorities(facts),
        *_room(facts),
    )


def _engine(facts: Facts) -> Check:
    subject = "container engine"
    if facts.engine is None:
        return Check(subject, CheckState.FAULT, *_silence(facts))
    detail = f"{facts.engine.version}, {facts.engine.platform}, at {facts.endpoint}"
    if facts.engine.platform not in PLATFORMS:
        return Check(
            subject, CheckState.FAULT, detail, "use an engine on linux/amd64 or linux/arm64"
        )
    if _major(facts.engine.version) < OLDEST_ENGINE:
        mend = f"upgrade it to {OLDEST_ENGINE} or newer"
        if "docker.io" in facts.system.packages:
            mend = f"`apt-get remove docker.io`, then {command('setup')} installs a newer one"
        return Check(subject, CheckState.FAULT, f"{detail} is too old", mend)
    return Check(subject, CheckState.FINE, detail)


def _silence(facts: Facts) -> tuple[str, str]:
    if facts.endpoint.configured:
        return facts.silence, ""
    if is_left_alone(facts):
        kept = " and ".join(map(str, facts.data))
        state = f"{facts.dockerd} is installed, not running" if facts.dockerd else "missing"
        mend = f"start it, or {command('setup --start')} does so, with its image store as it is"
        return f"{state}, and it has left {kept}", mend
    if plan(facts).start:
        state = f"{facts.dockerd} is installed, not running" if facts.dockerd else "missing"
        return state, f"run {command('setup')}"
    if not facts.silence.endswith(command("setup")):
        return facts.silence, ""
    if facts.dockerd:
        return (
            f"{facts.dockerd} is installed, not running",
            f"start it, or run {command('setup')} as root",
        )
    return "missing", _advice(facts)


def _advice(facts: Facts) -> str:
    if family(facts.system) is not None:
        return f"run {command('setup')} as root, or install docker.io and docker-buildx"
    if facts.system.name == "macOS":
        return "install and start Docker Desktop, or colima with docker and docker-buildx"
    if facts.system.name == "Windows":
        return "install Docker Desktop and work inside WSL 2"
    return f"install Docker Engine {OLDEST_ENGINE} or newer with buildx and compose, and start it"


def _configuration(facts: Facts) -> Iterator[Check]:
    file = facts.configuration
    if file.fault:
        # An engine that runs already has read it, when it was whole.
        state = CheckState.FAULT if facts.engine is None else CheckState.NOTE
        yield Check("daemon configuration", state, f"{file.path} {file.fault}", "mend that file")


def _client(facts: Facts) -> Iterator[Check]:
    client = facts.client
    if not client.path:
        mend = _mend(facts, "install the docker command (docker-cli)")
        yield Check("docker client", CheckState.FAULT, "missing", mend)
    elif client.podman:
        mend = "remove podman-docker, or put Docker's own client first on PATH"
        detail = f"{client.path} is Podman {client.version}, which has no buildx and no bake"
        yield Check("docker client", CheckState.FAULT, detail, mend)
        return
    elif client.fault:
        mend = "take a client of the engine's own version first on PATH"
        detail = f"{client.path} {client.version} can't use the engine: {client.fault}"
        yield Check("docker client", CheckState.FAULT, detail, mend)
    else:
        yield Check("docker client", CheckState.FINE, f"{client.version} ({client.path})")
    for name, version in (("buildx", client.buildx), ("compose", client.compose)):
        if version:
            yield Check(name, CheckState.FINE, version)
        else:
            package = f"docker-{name}"
            if "docker-ce" in facts.system.packages:
                package = f"docker-{name}-plugin"
            yield Check(name, CheckState.FAULT, "missing", _mend(facts, f"install {package}"))


def _mend(facts: Facts, otherwise: str) -> str:
    if plan(facts).packages:
        return f"run {command('setup')}"
    return otherwise


def _store(facts: Facts) -> Iterator[Check]:
    subject = "containerd image store"
    if facts.engine is None:
        return
    if facts.engine.containerd_store:
        yield Check(subject, CheckState.FINE, "on")
        return
    file = facts.configuration.path
    where = f"{file} on the engine's machine" if facts.endpoint.configured else str(file)
    if facts.system.name in {"macOS", "Windows"}:
        where = "Docker Desktop's settings"
    mend = (
        f"add {STORE_SETTING} to {where} and restart the engine, which hides the images of its"
        " present store for as long as that is set"
    )
    yield Check(subject, CheckState.FAULT, "off: images for two platforms can't be kept", mend)


def _platforms(facts: Facts) -> Iterator[Check]:
    if facts.engine is None and facts.endpoint.configured:
        return  # what another machine runs, this one can't tell
    native = facts.engine.platform if facts.engine else facts.platform
    runs = facts.engine.runs if facts.engine else frozenset[str]()
    if not facts.endpoint.configured and (facts.engine is None or not facts.client.buildx):
        runs |= facts.emulated  # nobody to ask: the kernel's answer is the best there is
    for name in PLATFORMS:
        if name == native:
            yield Check(name, CheckState.FINE, "native")
        elif name in runs:
            # What runs on another machine, or inside a virtual one, this kernel can't tell.
            by = "" if facts.endpoint.configured else facts.interpreters.get(name, "")
            yield Check(name, CheckState.FINE, f"emulated by {by}" if by else "emulated")
        else:
            yield Check(name, CheckState.FAULT, "does not run", _emulation(facts))


def _emulation(facts: Facts) -> str:
    if name := ", ".join(plan(facts).register):
        return f"{command('setup')} registers an emulator for {name}"
    if facts.endpoint.configured:
        return "register an emulator on the engine's machine (Debian: qemu-user-binfmt)"
    if facts.emulated:
        return "restart the engine: the kernel emulates it, but the engine doesn't list it"
    if family(facts.system) is not None:
        return f"run {command('setup')} as root"
    return "install and register QEMU's user emulation, statically linked"


def _bases(facts: Facts) -> Check:
    subject = "base images"
    if _registry(facts):
        return Check(subject, CheckState.FINE, "from docker.io")
    missing = [tool for tool in ("mmdebstrap", "arch-test") if tool not in facts.tools]
    if missing:
        mend = _mend(facts, f"install {' and '.join(missing)}, or make docker.io reachable")
        detail = f"docker.io doesn't answer, and {' and '.join(missing)} can't be found"
        return Check(subject, CheckState.FAULT, detail, mend)
    return Check(subject, CheckState.FINE, "docker.io doesn't answer: bootstrapped with mmdebstrap")


def _registries(facts: Facts) -> Check:
    states = [f"{host} {'answers' if yes else 'silent'}" for host, yes in facts.registries.items()]
    state = CheckState.FINE if any(facts.registries.values()) else CheckState.NOTE
    return Check("image registries", state, ", ".join(states))


def _authorities(facts: Facts) -> Check:
    subject = "private authority"
    if not facts.authorities:
        return Check(subject, CheckState.FINE, "none in use")
    names = ", ".join(facts.authorities)
    return Check(subject, CheckState.NOTE, f"{names}; builds get {facts.bundle} as a secret")


def _room(facts: Facts) -> Iterator[Check]:
    if facts.free is not None:
        state = CheckState.FINE if facts.free >= _FREE_WANTED else CheckState.NOTE
        if facts.free < _FREE_NEEDED:
            state = CheckState.FAULT
        mend = (
            ""
            if state is CheckState.FINE
            else "free some: `docker system df` shows what takes room"
        )
        yield Check("free disk space", state, f"{facts.free / _GIB:.0f} GiB", mend)
    if facts.engine is not None:
        enough = facts.engine.memory >= _MEMORY_WANTED
        detail = f"{facts.engine.cores} cores, {facts.engine.memory / _GIB:.0f} GiB"
        mend = "" if enough else f"give the engine {_MEMORY_WANTED // _GIB} GiB or more"
        state = CheckState.FINE if enough else CheckState.NOTE
        yield Check("cores and memory", state, detail, mend)
