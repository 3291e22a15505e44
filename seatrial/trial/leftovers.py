"""`nox -s leftovers`: compare the machine before and after a run of the trial.

What is there must be what was there: images and their names, containers, networks, volumes, files
in the folders for temporary files and in the working folder, cgroups of containers, and no process
that the run started may go on. What belongs to another run that goes on beside this one is left out
of both.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from seatrial import process, scratch
from seatrial.engine.connection import connect
from seatrial.errors import UserError
from seatrial.project import current
from seatrial.stack.labels import SESSION_LABEL, is_abandoned, session_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from docker import DockerClient

Snapshot = dict[tuple[str, str], str]
"""Kind and name of a thing, and what tells whether it is still the same."""

MARK = "SEATRIAL_LEFTOVERS"
"""The variable by which the processes of a run are known."""
KEPT = (".git", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache", ".seatrial", "__pycache__")
"""Folders of the working folder that are there for the next run: see docs/machine.md."""
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - they are only listed
_MOMENTARY = ("/tmp/runc-process*", "/tmp/containerd-mount*")  # noqa: S108
"""Paths that the engine makes while it starts a container, or a process in one: anybody's."""
_CGROUPS = Path("/sys/fs/cgroup")
_ID = 64
"""Digits of a container's id."""


def run(arguments: Sequence[str]) -> int:
    """Run the trial between two looks at the machine.

    Args:
        arguments: of the command line, without the program.

    Returns:
        The trial's exit code, or 1 where it left or took something; an interrupted one as well.

    Raises:
        UserError: no engine answers.
    """
    parser = argparse.ArgumentParser(
        prog="nox -s leftovers --",
        description="All other options go to `invoke test`.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="KIND NAME",
        help="a pattern such as 'image other/*': somebody else's; may be given more than once",
    )
    asked, words = parser.parse_known_args(arguments)
    mark = secrets.token_hex(8)
    with closing(connect()) as client:
        before = snapshot(client)
        code = _try([sys.executable, "-m", "invoke", "test", *words], mark)
        after = {**snapshot(client, abandoned=True), **processes(mark)}
    found = [
        change for change in compare(before, after) if not _matches(change.thing, asked.ignore)
    ]
    for change in found:
        sys.stderr.write(f"seatrial: {change}\n")
    if not found:
        sys.stderr.write(f"the machine is as it was: {len(before)} things compared\n")
    return code or int(bool(found))


def _try(command: Sequence[str], mark: str) -> int:
    """Run the trial; an interrupt is passed on, and the trial is waited for: it tidies up."""
    with (
        subprocess.Popen(
            command, env={**os.environ, MARK: mark}, start_new_session=True
        ) as running,
        process.interrupts_passed_on(running),
    ):
        return running.wait()


@dataclass(frozen=True)
class MachineChange:
    """Difference of the machine before and after the trial."""

    change: str
    """`left behind`, `gone` or `changed`."""
    thing: str

    def __str__(self) -> str:
        return f"{self.change}: {self.thing}"


def compare(
    before: Mapping[tuple[str, str], str], after: Mapping[tuple[str, str], str]
) -> list[MachineChange]:
    """List what differs, by category and name."""
    found: list[MachineChange] = []
    told: set[Path] = set()
    for category, name in sorted(before.keys() | after.keys()):
        was, now = before.get((category, name)), after.get((category, name))
        if was == now:
            continue
        change = "left behind" if was is None else "gone" if now is None else "changed"
        if category == "file":
            path = Path(name)
            told.add(path)
            if not told.isdisjoint(path.parents):
                continue
        detail = f" ({now or was})" if now or was else ""
        found.append(MachineChange(change, f"{category} {name}{detail}"))
    return found


def snapshot(client: DockerClient, *, abandoned: bool = False) -> Snapshot:
    """Look at the engine and the file system.

    Args:
        client: of the engine.
        abandoned: with what ended sessions left. Before the run that is what it will remove.
    """
    root = current().root
    return {
        **_of_engine(client, abandoned=abandoned),
        # This environment may be in one of them: what Python compiles in it is no leftover.
        **files((Path(folder) for folder in _TEMPORARY), without=(root, Path(sys.prefix))),
        **files((root,), names=KEPT),
        **_cgroups(client),
    }


def _of_engine(client: DockerClient, *, abandoned: bool) -> Snapshot:
    """List what is in the engine, without what belongs to sessions that go on."""
    found: Snapshot = {}
    alive: set[str] = set()

    def add(category: str, name: str, content: str, labels: Mapping[str, str] | None) -> None:
        session = (labels or {}).get(SESSION_LABEL)
        if session is None or (abandoned and is_abandoned(labels or {})):
            found[category, name] = content
        elif not is_abandoned(labels or {}):
            alive.add(session)

    for container in client.containers.list(all=True, ignore_removed=True):
        add("container", str(container.name), str(container.id), container.labels)
    for network in client.networks.list():
        add("network", str(network.name), str(network.id), network.attrs["Labels"])
    for volume in client.volumes.list():
        add("volume", str(volume.name), "", volume.attrs["Labels"])
    for image in client.images.list(all=True):
        for name in image.tags or [str(image.id)]:
            session = session_of(name)
            if session is None or (abandoned and session not in alive):
                found["image", name] = str(image.id)
    return found


def files(
    roots: Iterable[Path], *, without: Sequence[Path] = (), names: Sequence[str] = ()
) -> Snapshot:
    """List every path below folders; what is in a folder of a process that runs is its own.

    Args:
        roots: the folders.
        without: folders that are left out.
        names: of folders that are left out wherever they are.
    """
    return {("file", str(path)): "" for root in roots for path in _below(root, without, names)}


def _below(root: Path, without: Sequence[Path], names: Sequence[str]) -> Iterator[Path]:
    for folder, folders, others in os.walk(root):
        paths = {name: Path(folder, name) for name in folders}
        folders[:] = [
            name
            for name, path in paths.items()
            if name not in names and path not in without and not scratch.is_held(path)
            if not (path.is_mount() or any(map(path.match, _MOMENTARY)))
        ]
        yield from (paths[name] for name in folders)
        found = (Path(folder, name) for name in others)
        yield from (path for path in found if not any(map(path.match, _MOMENTARY)))


def _cgroups(client: DockerClient) -> Snapshot:
    """List the cgroups of containers that are not there."""
    # Others may start and remove containers meanwhile.
    containers = _ids(client)
    found = {
        path: path.name.removeprefix("docker-").removesuffix(".scope")
        for top in _CGROUPS.glob("**/docker*")
        for path in (top, *top.glob("*"))
    }
    containers |= _ids(client)
    return {
        ("cgroup", str(path)): ""
        for path, name in found.items()
        if len(name) == _ID and name not in containers
    }


def _ids(client: DockerClient) -> set[str]:
    return {
        str(container.id) for container in client.containers.list(all=True, ignore_removed=True)
    }


def processes(mark: str) -> Snapshot:
    """List the processes that were started with a mark in their environment."""
    found: Snapshot = {}
    for each in psutil.process_iter():
        try:
            if each.environ().get(MARK) == mark:
                command = " ".join(each.cmdline())
                found["process", str(each.pid)] = command
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it has ended, or is another user's
    return found


def _matches(thing: str, patterns: Iterable[str]) -> bool:
    named = thing.split(" (")[0]
    return any(fnmatch(named, pattern) for pattern in patterns)


if __name__ == "__main__":
    try:
        sys.exit(run(sys.argv[1:]))
    except UserError as error:
        sys.stderr.write(f"seatrial: {error}\n")
        sys.exit(2)
