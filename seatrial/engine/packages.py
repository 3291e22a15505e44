"""Debian's and Ubuntu's packages: their names, sources and installation.

Debian before trixie has no buildx and an engine that is too old. Trixie's packages run there as
they are (they need libc 2.34), so a source for trixie is added, at a priority at which nothing
comes from it unless it is named: `NAME/trixie`, whose dependencies stay with the machine's own
release. (`-t trixie` would draw the C library along.)
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from debian.deb822 import Deb822

from seatrial import process, scratch
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from seatrial.engine.facts import System
    from seatrial.engine.journal import SetupRun

SUITE = "trixie"
LOG = Path("/var/log/seatrial-packages.log")

_RELEASE_OF_SUITE = 13
_APT = Path("/etc/apt")
_LISTS = Path("/var/lib/apt/lists")
_PRIORITY = 100
_ABSENT = ("not-installed", "config-files")
_TAIL = 5
_APT_WORK = "apt-dpkg-install-*"
"""Folders that apt makes for the time of an installation, with links to the packages."""


@dataclass(frozen=True)
class Family:
    """A distribution's packages for each part."""

    identity: str
    engine: tuple[str, ...]
    client: tuple[str, ...]
    buildx: tuple[str, ...]
    compose: tuple[str, ...]
    emulator: tuple[str, ...]
    bootstrap: tuple[str, ...] = ("mmdebstrap", "arch-test")
    """Packages with the names of their programs."""


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
class IndexTarget:
    """A package index of the machine's apt, from `apt-get indextargets`."""

    uri: str
    codename: str
    label: str
    file: Path
    entry: int
    """Number of the entry in the file, from 1: a line of a .list, a stanza of a .sources."""


def targets(listing: str) -> tuple[IndexTarget, ...]:
    """Parse the output of `apt-get indextargets`.

    Args:
        listing: stanzas in deb822 form.
    """
    found = []
    for stanza in Deb822.iter_paragraphs(listing, use_apt_pkg=False):
        if stanza.get("Created-By") != "Packages":
            continue
        file, _, entry = stanza["Sourcesentry"].rpartition(":")
        found.append(
            IndexTarget(
                uri=stanza["Repo-URI"],
                codename=stanza.get("Codename", stanza["Release"]),
                label=stanza.get("Label", ""),
                file=Path(file),
                entry=int(entry),
            )
        )
    return tuple(found)


def trust(target: IndexTarget) -> Mapping[str, str]:
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


def source(known: Sequence[IndexTarget], codename: str) -> str | None:
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


def install(packages: Sequence[str], system: System, run: SetupRun) -> None:
    """Install packages, without those that they only recommend.

    Args:
        packages: the distribution's names.
        system: the machine's operating system, of a known family.
        run: the record of the changes.

    Raises:
        UserError: apt-get fails, or would change more than it was asked to.
    """
    apt = Apt()
    # apt-get refuses to work on top of an installation that was killed.
    apt.run("dpkg", "--configure", "-a")
    wanted, expected = prepare(packages, system, apt, run.write)
    run.changes.installed += [name for name, old, _ in expected if not old]
    run.changes.upgraded |= {name: f"{old} -> {new}" for name, old, new in expected if old}
    run.note()
    apt.get("install", "--yes", "--no-install-recommends", *wanted)


def prepare(
    packages: Sequence[str], system: System, apt: Apt, write: Callable[[Path, str], None]
) -> tuple[list[str], list[PackageChange]]:
    """Bring apt's indexes up to date, add the suite where it is needed, and try an installation.

    Args:
        packages: the distribution's names.
        system: the machine's operating system, of a known family.
        apt: the machine's own, or a copy.
        write: writes a file of apt's settings.

    Returns:
        The packages as apt-get takes them, and what would change.

    Raises:
        UserError: apt-get fails, or would change more than it was asked to.
    """
    apt.update()
    if needs_suite(system):
        _add_suite(system, apt, write)
    wanted = arguments(packages, system)
    simulation = apt.get("install", "--simulate", "--no-install-recommends", *wanted)
    if refused := refusal(simulation):
        raise UserError(f"apt-get install {' '.join(wanted)} would {refused}: install them by hand")
    return wanted, changes(simulation)


class PackageChange(NamedTuple):
    """Change of a package by an installation."""

    name: str
    old: str
    """Empty for a package that is not installed yet."""
    new: str


def changes(simulation: str) -> list[PackageChange]:
    """Parse the changes in the output of `apt-get install --simulate`."""
    found = re.findall(r"^Inst (\S+) (?:\[(\S+)\] )?\((\S+)", simulation, re.MULTILINE)
    return [PackageChange(*groups) for groups in found]


def present(packages: Iterable[str]) -> list[str]:
    """Choose those packages of a list that are installed, wholly or in part."""
    command = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n"]
    status = dict(line.split(" ", 1) for line in _listed(command))
    return [name for name in packages if status.get(name, "not-installed") not in _ABSENT]


def settings_of(packages: Iterable[str], etc: Path) -> frozenset[str]:
    """List the files below /etc that installed packages brought, by their paths below it."""
    names = list(packages)
    if not names:
        return frozenset()
    command = ["dpkg-query", "--show", "--showformat=${Conffiles}\n", *names]
    paths = (Path(line.split()[0]) for line in _listed(command) if line.strip())
    return frozenset(str(path.relative_to(etc)) for path in paths if path.is_relative_to(etc))


def _listed(command: Sequence[str]) -> list[str]:
    done = process.run(command)
    done.check_returncode()
    return done.stdout.splitlines()


def needed_by(packages: Sequence[str]) -> list[str]:
    """Name other packages that would have to go with these."""
    simulation = Apt().get("remove", "--simulate", *packages)
    removed = re.findall(r"^Remv (\S+)", simulation, re.MULTILINE)
    return sorted(set(removed) - set(packages))


def purge(packages: Sequence[str], data_roots: Iterable[Path], begun: datetime) -> None:
    """Remove packages and their settings, and never the data of an engine.

    Args:
        packages: installed ones, which no other needs.
        data_roots: where engines keep their images.
        begun: when the setup began that installed them.

    Source:
        docker.io's prerm puts a script into /var/lib/docker, with which its postrm removes that
        folder when the package is purged.
    """
    apt = Apt()
    # A dpkg that was killed leaves a journal, which apt refuses and any dpkg that writes takes
    # over, and half-unpacked packages. Nothing is configured: that would start the engine.
    apt.run("dpkg", "--set-selections")
    broken_too = "--force-remove-reinstreq"
    # An apt that is at work has the lock that `remove` waits for: these are of one that was killed.
    abandoned = [
        folder
        for folder in Path(tempfile.gettempdir()).glob(_APT_WORK)
        if folder.stat().st_mtime >= begun.timestamp()
    ]
    apt.get("remove", "--yes", "-o", f"Dpkg::Options::={broken_too}", *packages)
    for folder in abandoned:
        shutil.rmtree(folder, ignore_errors=True)
    for folder in data_roots:
        (folder / "nuke-graph-directory.sh").unlink(missing_ok=True)
    apt.run("dpkg", broken_too, "--purge", *packages)


def refusal(simulation: str) -> str:
    """Say which part of a simulated installation Seatrial does not do by itself.

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


def _add_suite(system: System, apt: Apt, write: Callable[[Path, str], None]) -> None:
    stanza = source(targets(apt.get("indextargets")), system.codename)
    if stanza is None:
        if apt.entry.exists():
            write(apt.preference, pin())
        return
    # The pin comes first: at no moment is the suite there without it.
    write(apt.preference, pin())
    write(apt.entry, stanza)
    try:
        apt.update()
    except UserError:
        # A source that can't be read would fail every later `apt-get update` of the machine.
        apt.entry.unlink()
        apt.preference.unlink()
        raise


@dataclass(frozen=True)
class Apt:
    """apt-get with its settings and indexes: the machine's own, or a copy that nobody else uses."""

    settings: Path = _APT
    options: tuple[str, ...] = ()
    log: Path | None = LOG

    @classmethod
    @contextmanager
    def copy(cls) -> Iterator[Self]:
        """Copy settings and indexes, for questions that must not change the machine's."""
        with scratch.folder() as folder:
            settings, lists = folder / "settings", folder / "lists"
            shutil.copytree(_APT, settings, symlinks=True)
            without = shutil.ignore_patterns("lock", "partial")
            shutil.copytree(_LISTS, lists, ignore=without)
            (lists / "partial").mkdir()
            options = {
                "Dir::Etc": settings,
                "Dir::State::lists": lists,
                "Dir::Cache": folder / "cache",
                "APT::Sandbox::User": "root",  # apt's own user may not enter the folder
            }
            words = (word for key, value in options.items() for word in ("-o", f"{key}={value}"))
            yield cls(settings, tuple(words), log=None)

    @property
    def preference(self) -> Path:
        """The file that holds the suite back."""
        return self.settings / "preferences.d" / "seatrial-engine"

    @property
    def entry(self) -> Path:
        """The file that names the suite's mirror."""
        return self.settings / "sources.list.d" / "seatrial-engine.sources"

    def update(self) -> None:
        """Fetch the indexes."""
        self.get("update", "-o", "Acquire::Retries=3")

    def get(self, command: str, *rest: str) -> str:
        """Run apt-get and return its output.

        Raises:
            UserError: it failed.
        """
        # Wait for another apt, and keep configuration files that the user has changed.
        options = ("-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold")
        return self.run("apt-get", command, *options, *self.options, *rest)

    def run(self, *command: str) -> str:
        """Run a program of the package management and return its output.

        Raises:
            UserError: it failed.
        """
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        result = process.run(command, environment=environment, text="")
        if self.log:
            with self.log.open("a") as log:
                log.write(f"$ {shlex.join(command)}\n{result.stdout}{result.stderr}")
        if result.returncode:
            complaints = re.findall(r"^(?:E|dpkg): .*", result.stderr, re.MULTILINE)
            reason = " ".join(complaints[-_TAIL:]) or f"code {result.returncode}"
            where = f" (see {self.log})" if self.log else ""
            raise UserError(f"`{shlex.join(command[:2])}` failed: {reason}{where}")
        return result.stdout
