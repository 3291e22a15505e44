"""`invoke setup` and `invoke doctor`: from the facts to a machine that can build and run."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from seatrial.console import make_console
from seatrial.engine import (
    daemon,
    emulation,
    journal,
    packages,
    preview,
    probe,
    process_identity,
    registries,
    report,
    undo,
)
from seatrial.engine.connection import PLATFORMS
from seatrial.engine.plan import Check, CheckState, Plan, checks, is_left_alone, plan
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from seatrial.engine.facts import Facts
    from seatrial.engine.journal import SetupRun

_LOCK = Path("/run/seatrial-setup.lock")
_LOCK_SECONDS = 1800
_SHOWN = ("container engine", *PLATFORMS)


def run(*, start: bool = False, dry_run: bool = False) -> None:
    """Make this machine able to build and run the images.

    Args:
        start: also where an engine that does not run has left data.
        dry_run: print what would be done, and change nothing.

    Raises:
        UserError: the main job can't run here; says what is missing and how to mend it.
    """
    console = make_console()
    facts = probe.facts()
    if steps := plan(facts, over_data=start):
        if dry_run:
            preview.show(facts, steps, console)
            return
        with _locked(console):
            # Another setup may have done it all while this one waited.
            facts = probe.facts()
            if steps := plan(facts, over_data=start):
                with journal.recording() as run:
                    _execute(facts, steps, run, console)
                facts = probe.facts()
    rows = checks(facts)
    if faults := _faults(rows):
        if is_left_alone(facts):
            faults = [fault for fault in faults if fault.subject == "container engine"]
        raise UserError("; ".join(str(fault) for fault in faults))
    if dry_run:
        console.print("nothing to do")
        return
    parts = [f"{row.subject} {row.detail}" for row in rows if row.subject in _SHOWN]
    console.print(f"ready: {', '.join(parts)}", highlight=False, soft_wrap=True)


def check() -> None:
    """Report on this machine, and change nothing.

    Raises:
        UserError: the main job can't run here.
    """
    facts = probe.facts(registries.KNOWN)
    rows = checks(facts)
    make_console().print(report.table(facts, rows))
    if faults := _faults(rows):
        subjects = ", ".join(fault.subject for fault in faults)
        raise UserError(f"this machine can't build and run the images yet: see {subjects} above")


def take_back(*, keep_packages: bool = False, dry_run: bool = False) -> None:
    """Undo what setup changed on this machine.

    Args:
        keep_packages: leave what was installed.
        dry_run: print what would be done, and change nothing.

    Raises:
        UserError: it can't be undone as the machine is.
    """
    console = make_console()
    if dry_run:
        undo.run(console, keep_packages=keep_packages, dry_run=True)
        return
    with _locked(console):
        undo.run(console, keep_packages=keep_packages, dry_run=False)


@contextmanager
def _locked(console: Console) -> Iterator[None]:
    lock = FileLock(_LOCK)
    try:
        lock.acquire(timeout=0)
    except PermissionError:
        raise UserError("this changes the machine: run it as root") from None
    except Timeout:
        console.print("another setup is at work on this machine: waiting for it")
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout:
            raise UserError(
                f"another setup has held {_LOCK} for {_LOCK_SECONDS // 60} minutes"
            ) from None
    try:
        yield
    finally:
        lock.release()


def _execute(facts: Facts, steps: Plan, run: SetupRun, console: Console) -> None:
    # The configuration comes before the packages: where services start at once, the daemon would
    # otherwise begin with the old image store.
    if steps.configure:
        console.print(f"writing {facts.configuration.path}", highlight=False, soft_wrap=True)
        run.write(facts.configuration.path, daemon.configuration())
    if steps.packages:
        names = " ".join(packages.arguments(steps.packages, facts.system))
        console.print(f"installing {names}", highlight=False, soft_wrap=True)
        packages.install(steps.packages, facts.system, run)
    if steps.start:
        settings = probe.configuration(facts.configuration.path).settings
        layout = daemon.Layout.configured(settings)
        where = "with systemd" if facts.system.systemd else f"in the background, log {layout.log}"
        console.print(f"starting the engine {where}", highlight=False, soft_wrap=True)
        _start(layout, run, systemd=facts.system.systemd)
    for platform in steps.register:
        console.print(f"registering an emulator for {platform}", highlight=False, soft_wrap=True)
        if not emulation.works(platform):
            run.changes.registered.append(emulation.entry_name(platform))
            run.changes.boot = process_identity.boot()
            run.note()
            emulation.register(platform)


def _start(layout: daemon.Layout, run: SetupRun, *, systemd: bool) -> None:
    """Start the engine, and note which process that is, also where it does not answer."""
    if systemd:
        run.changes.engine = {"unit": "docker.service"}
        run.note()
    try:
        daemon.start(layout, systemd=systemd)
    finally:
        if not systemd and (started := daemon.running(layout)):
            run.changes.engine = {
                "pid": str(started.pid),
                "started": process_identity.start_of(started.pid),
                "pidfile": str(layout.pidfile),
            }
            run.note()


def _faults(rows: tuple[Check, ...]) -> list[Check]:
    return [row for row in rows if row.state is CheckState.FAULT]
