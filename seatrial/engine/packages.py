"""Debian's and Ubuntu's packages: which are needed, from where, and installing them.

Debian before trixie has no buildx and an engine that is too old. Trixie's packages run there as
they are (they need libc 2.34), so a source for trixie is added, at a priority at which nothing
comes from it unless it is named: `NAME/trixie`, whose dependencies stay with the machine's own
release. (`-t trixie` would draw the C library along.)
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from debian.deb822 import Deb822

from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from seatrial.engine.facts import System

SUITE = "trixie"
LOG = Path("/var/log/seatrial-packages.log")

_RELEASE_OF_SUITE = 13
_APT = Path("/etc/apt")
_PRIORITY = 100
_TAIL = 5


@dataclass(frozen=True)
class Family:
    """What a distribution calls the packages of each part."""

    identity: str
    engine: tuple[str, ...]
    client: tuple[str, ...]
    buildx: tuple[str, ...]
    compose: tuple[str, ...]
    emulator: tuple[str, ...]
    bootstrap: tuple[str, ...] = ("mmdebstrap", "arch-test")
    """Named as the programs that they bring."""


_FAMILIES = {
    "debian": Family(
        identity="debian",
        engine=("docker.io", "containerd", "iptables"),
        client=("docker-cli",),
        buildx=("docker-buildx",),
        compose=("docker-compose",),
        emulator=("qemu-user",),
    ),
    "ubuntu": Family(
        identity="ubuntu",
        engine=("docker.io", "iptables"),
        client=("docker.io",),
        buildx=("docker-buildx",),
        compose=("docker-compose-v2",),
        emulator=("qemu-user-static",),
    ),
}

_FROM_SUITE = frozenset(
    {"docker.io", "docker-cli", "docker-buildx", "docker-compose", "containerd", "qemu-user"}
)


def family(system: System) -> Family | None:
    """Tell which packages a system has; None where Seatrial doesn't know them."""
    return _FAMILIES.get(system.identity)


def needs_suite(system: System) -> bool:
    """Tell whether the system is a Debian older than the suite that the engine comes from."""
    return (
        system.identity == "debian"
        and system.version is not None
        and system.version < _RELEASE_OF_SUITE
    )


def arguments(packages: Iterable[str], system: System) -> list[str]:
    """Name packages as apt-get takes them on that system, with the suite where one is needed."""
    suffix = f"/{SUITE}" if needs_suite(system) else ""
    return [f"{name}{suffix if name in _FROM_SUITE else ''}" for name in packages]


@dataclass(frozen=True)
class Target:
    """One index that the machine's apt knows, as `apt-get indextargets` tells it."""

    uri: str
    codename: str
    label: str
    file: Path
    entry: int
    """Which entry of the file: its line in a .list, its stanza in a .sources; from 1."""


def targets(listing: str) -> tuple[Target, ...]:
    """Read what `apt-get indextargets` wrote.

    Args:
        listing: stanzas in deb822 form.
    """
    found = []
    for stanza in Deb822.iter_paragraphs(listing, use_apt_pkg=False):
        if stanza.get("Created-By") != "Packages":
            continue
        file, _, entry = stanza["Sourcesentry"].rpartition(":")
        found.append(
            Target(
                uri=stanza["Repo-URI"],
                codename=stanza.get("Codename", stanza["Release"]),
                label=stanza.get("Label", ""),
                file=Path(file),
                entry=int(entry),
            )
        )
    return tuple(found)


def trust(target: Target) -> Mapping[str, str]:
    """Read which key the machine trusts for a target, in either of apt's formats.

    Returns:
        The deb822 fields Signed-By and Trusted, those of them that the entry has.
    """
    text = target.file.read_text()
    if target.file.suffix == ".sources":
        stanzas = list(Deb822.iter_paragraphs(text, use_apt_pkg=False))
        fields: Mapping[str, str] = stanzas[target.entry - 1]
    else:
        bracket = re.search(r"\[(.*?)\]", text.splitlines()[target.entry - 1])
        options = shlex.split(bracket[1]) if bracket else []
        fields = {
            key.title(): value
            for key, separator, value in (option.partition("=") for option in options)
            if separator
        }
    return {key: fields[key] for key in ("Signed-By", "Trusted") if key in fields}


def source(known: Sequence[Target], codename: str) -> str | None:
    """Write the apt source for the suite, from the mirror that serves the machine's own release.

    Args:
        known: the machine's targets.
        codename: the machine's own release, such as `bookworm`.

    Returns:
        A deb822 stanza; None where the machine has the suite already.

    Raises:
        UserError: the machine has no Debian mirror in its sources.
    """
    if any(target.codename == SUITE and target.label == "Debian" for target in known):
        return None
    mirror = next(
        (
            target
            for target in known
            if target.codename == codename and target.label == "Debian"
            if not target.uri.startswith("cdrom:")
        ),
        None,
    )
    if mirror is None:
        raise UserError(
            f"apt has no index of Debian {codename}: mend {_APT}/sources.list*, or what keeps "
            "`apt-get update` from reaching the mirror"
        )
    stanza = Deb822()
    stanza["Types"] = "deb"
    stanza["URIs"] = mirror.uri
    stanza["Suites"] = SUITE
    stanza["Components"] = "main"
    for key, value in trust(mirror).items():
        stanza[key] = value
    return str(stanza)


def pin() -> str:
    """Write the preference that keeps the suite's packages back unless they are named."""
    stanza = Deb822()
    stanza["Package"] = "*"
    stanza["Pin"] = f"release n={SUITE}"
    stanza["Pin-Priority"] = str(_PRIORITY)
    return str(stanza)


def install(packages: Sequence[str], system: System) -> None:
    """Install packages and nothing that they only recommend.

    Args:
        packages: the distribution's names.
        system: the machine's operating system, of a known family.

    Raises:
        UserError: apt-get fails, or would change more than it was asked to.
    """
    # What an installation that was killed left half-done would fail this one.
    _run("dpkg", "--configure", "-a")
    _update()
    if needs_suite(system):
        _add_suite(system)
    wanted = arguments(packages, system)
    simulation = _apt("install", "--simulate", "--no-install-recommends", *wanted)
    if refused := refusal(simulation):
        raise UserError(f"apt-get install {' '.join(wanted)} would {refused}: install them by hand")
    _apt("install", "--yes", "--no-install-recommends", *wanted)


def refusal(simulation: str) -> str:
    """Say what of a simulated installation goes too far.

    Args:
        simulation: what `apt-get install --simulate` wrote.

    Returns:
        `remove NAME` or `replace the C library`; empty where all is well.
    """
    removed = re.findall(r"^Remv (\S+)", simulation, re.MULTILINE)
    if removed:
        return f"remove {', '.join(removed)}"
    if re.search(r"^Inst libc6(:\S+)? \[", simulation, re.MULTILINE):
        return "replace the C library"
    return ""


def _add_suite(system: System) -> None:
    preference = _APT / "preferences.d" / "seatrial-engine"
    entry = _APT / "sources.list.d" / "seatrial-engine.sources"
    stanza = source(targets(_apt("indextargets")), system.codename)
    if stanza is None:
        if entry.exists():
            preference.write_text(pin())
        return
    # The pin comes first: at no moment is the suite there without it.
    preference.write_text(pin())
    entry.write_text(stanza)
    try:
        _update()
    except UserError:
        # A source that can't be read would fail every later `apt-get update` of the machine.
        entry.unlink()
        preference.unlink()
        raise


def _update() -> None:
    _apt("update", "-o", "Acquire::Retries=3")


def _apt(command: str, *rest: str) -> str:
    # Another apt may be at work, and a person's own configuration files are theirs.
    options = ("-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold")
    return _run("apt-get", command, *options, *rest)


def _run(*command: str) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    with LOG.open("a") as log:
        log.write(f"$ {shlex.join(command)}\n{result.stdout}{result.stderr}")
    if result.returncode:
        complaints = re.findall(r"^E: .*", result.stderr, re.MULTILINE)
        reason = " ".join(complaints[-_TAIL:]) or f"code {result.returncode}"
        raise UserError(f"`{shlex.join(command[:2])}` failed: {reason} (see {LOG})")
    return result.stdout
