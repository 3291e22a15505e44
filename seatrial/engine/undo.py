"""`invoke setup --undo`: restore the machine's state before setup.

What somebody has changed since stays as it is, and is named. The data of an engine is never
removed: images may be what the machine is for.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import docker

from seatrial import process
from seatrial.engine import (
    daemon,
    data,
    emulation,
    journal,
    packages,
    probe,
    process_identity,
    tree,
)
from seatrial.errors import UserError

if TYPE_CHECKING:
    import psutil
    from rich.console import Console

    from seatrial.engine.journal import SetupRun
    from seatrial.engine.tree import Tree


@dataclass(frozen=True)
class EtcDifference:
    """Paths below /etc to restore."""

    back: dict[str, tree.PathState | None]
    """Earlier state by path; None for a path that did not exist."""
    foreign: list[str]
    """Paths that somebody has changed since."""


@dataclass
class Steps:
    """Steps that undo a run of setup."""

    run: SetupRun
    stop: psutil.Process | str | None = None
    """A process, or a unit of systemd."""
    unregister: list[str] = field(default_factory=list)
    purge: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """Packages that stay, and why."""
    without: frozenset[str] = frozenset()
    """Paths below /etc that belong to packages that were upgraded."""
    only_written: bool = False
    """True if packages stay, with all that came with them below /etc."""


def run(console: Console, *, keep_packages: bool, dry_run: bool) -> None:
    """Undo every run of setup that is on record, the newest first.

    Args:
        console: where it is printed what is done.
        keep_packages: leave what was installed, and of /etc what setup did not write itself.
        dry_run: only print it.

    Raises:
        UserError: this is not root, containers run, or a step failed: what was undone by then
            stays undone, and the next call goes on from there.
    """
    if os.geteuid() != 0:
        raise UserError("this changes the machine: run it as root")
    found = journal.runs()
    if not found:
        _say(console, f"nothing to undo: {journal.FOLDER} records no change of setup's")
        return
    if dry_run:
        _say(console, "undo would do as follows; nothing has been changed:")
    state = tree.capture(journal.ETC, without=journal.VOLATILE)
    for run in found:
        _say(console, f"setup of {run.changes.begun}:")
        if not run.sealed:
            _say(console, "it was killed: what changed in /etc since then counts as its work")
        if not (run.sealed or dry_run):
            run.seal()
        steps = _steps(run, keep_packages=keep_packages)
        state = _show(steps, state, console)
        if not dry_run:
            _undo(steps, console)
            run.remove()
    if not dry_run:
        for log in (packages.LOG, daemon.Layout().log):
            log.unlink(missing_ok=True)
    for kept in data.find(probe.configuration().settings):
        _say(console, f"stays: {kept}: remove that folder by hand if nobody needs it")


def difference(before: Tree, after: Tree, earlier: Tree, now: Tree) -> EtcDifference:
    """Compare four states of a folder.

    Args:
        before: before setup.
        after: after it.
        earlier: before undo.
        now: after packages were removed, or the same as `earlier`.
    """
    back: dict[str, tree.PathState | None] = {}
    foreign = []
    for name in sorted(before.keys() | after.keys() | now.keys()):
        wanted = before.get(name)
        if now.get(name) == wanted:
            continue
        if earlier.get(name) in (after.get(name), wanted):
            if name in before.keys() | after.keys():
                back[name] = wanted
        elif wanted != after.get(name):  # else somebody has changed what setup never touched
            foreign.append(name)
    return EtcDifference(back, foreign)


def _steps(run: SetupRun, *, keep_packages: bool) -> Steps:
    changes = run.changes
    steps = Steps(run)
    if changes.boot == process_identity.boot():
        steps.unregister = list(changes.registered)
    steps.stop = _engine_of(run)
    there = packages.present(changes.installed) if changes.installed else []
    if there and keep_packages:
        steps.kept.append(f"{' '.join(there)}: as asked for")
    elif there:
        _require_no_other_engine(steps)
        if others := packages.needed_by(there):
            steps.kept.append(f"{' '.join(there)}: {' '.join(others)} would go with them")
        else:
            steps.purge = there
    steps.only_written = bool(there) and not steps.purge
    steps.without = packages.settings_of(changes.upgraded, run.etc)
    steps.kept += [f"{name} {versions}" for name, versions in changes.upgraded.items()]
    if steps.stop:
        _require_no_containers()
    return steps


def _engine_of(run: SetupRun) -> psutil.Process | str | None:
    started = run.changes.engine
    if unit := started.get("unit"):
        has_systemd = Path("/run/systemd/system").is_dir()
        command = ["systemctl", "is-active", "--quiet", unit]
        return unit if has_systemd and process.run(command).returncode == 0 else None
    layout = daemon.Layout(pidfile=Path(started.get("pidfile", daemon.Layout().pidfile)))
    running = daemon.running(layout)
    if running is None or str(running.pid) != started.get("pid"):
        return None
    return running if process_identity.start_of(running.pid) == started.get("started") else None


def _require_no_other_engine(steps: Steps) -> None:
    if not steps.stop and "docker.io" in steps.run.changes.installed:
        settings = probe.configuration().settings
        if daemon.running(daemon.Layout.configured(settings)):
            raise UserError(
                "the engine that runs was not started by setup: stop it first, or give"
                " --keep-packages"
            )


def _require_no_containers() -> None:
    socket = daemon.Layout().socket
    if not daemon.answers(socket):
        return
    with closing(docker.DockerClient(base_url=f"unix://{socket}")) as client:
        names = sorted(str(container.name) for container in client.containers.list())
    if names:
        raise UserError(f"containers run in the engine that setup started: stop {', '.join(names)}")


def _show(steps: Steps, state: Tree, console: Console) -> Tree:
    """Print the steps; return the state of /etc after them."""
    if isinstance(steps.stop, str):
        _say(console, f"service: stop {steps.stop}")
    elif steps.stop:
        _say(console, f"service: stop dockerd, process {steps.stop.pid}")
    for name in steps.unregister:
        _say(console, f"kernel: take {emulation.BINFMT / name} back")
    if steps.purge:
        _say(console, f"packages: remove {' '.join(steps.purge)}")
    for reason in steps.kept:
        _say(console, f"packages: stays {reason}")
    run = steps.run
    after = run.after if run.sealed else state
    back = _chosen(steps, difference(run.before, after, state, state).back)
    for name, entry in back.items():
        _say(console, f"file: {'put back' if entry else 'remove'} {run.etc / name}")
    changed = {**state, **back}
    return {name: entry for name, entry in changed.items() if entry}


def _undo(steps: Steps, console: Console) -> None:
    run = steps.run
    before, after = run.before, run.after
    # Packages may take files along that were there before they came.
    earlier = tree.capture(run.etc, without=journal.VOLATILE, keep=run.contents)
    if isinstance(steps.stop, str):
        daemon.stop_unit()
    elif steps.stop:
        daemon.stop(steps.stop)
    for name in steps.unregister:
        emulation.unregister(name)
    if steps.purge:
        folders = [kept.folder for kept in data.find(probe.configuration().settings)]
        packages.purge(steps.purge, folders, datetime.fromisoformat(run.changes.begun))
    now = tree.capture(run.etc, without=journal.VOLATILE)
    found = difference(before, after, earlier, now)
    tree.put_back(run.etc, _chosen(steps, found.back), run.contents)
    last = tree.capture(run.etc, without=journal.VOLATILE)
    tree.put_times_back(run.etc, times(before, after, earlier, last))
    if isinstance(steps.stop, str):
        process.run(["systemctl", "daemon-reload"])
    for name in _chosen(steps, dict.fromkeys(found.foreign)):
        _say(console, f"stays: {run.etc / name}: somebody has changed it since setup")


def _chosen(
    steps: Steps, paths: dict[str, tree.PathState | None]
) -> dict[str, tree.PathState | None]:
    """Leave out the files of packages that stay."""
    wrote = steps.run.changes.wrote
    ours = {*wrote, *(str(parent) for name in wrote for parent in Path(name).parents)}
    return {
        name: entry
        for name, entry in paths.items()
        if name in ours or not (steps.only_written or name in steps.without)
    }


def times(before: Tree, after: Tree, earlier: Tree, now: Tree) -> dict[str, int]:
    """Choose the paths that get back their earlier time of change.

    These are the restored paths whose time setup or undo has changed, and nobody else.

    Args:
        before: before setup.
        after: after it.
        earlier: before undo.
        now: after it.
    """
    listed, lists = _names(before), _names(now)
    return {
        name: was.changed
        for name, was in before.items()
        if now.get(name) == was and now[name].changed != was.changed
        if not (name in after and name in earlier and after[name].changed != earlier[name].changed)
        if listed.get(name) == lists.get(name)
    }


def _names(state: Tree) -> dict[str, set[str]]:
    """Collect the names in each folder."""
    found: dict[str, set[str]] = {}
    for name in state:
        if name != ".":
            found.setdefault(str(Path(name).parent), set()).add(name)
    return found


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
