"""`invoke setup` and `invoke doctor`: from the facts to a machine that can build and run."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from rich.console import Console

from seatrial.engine import daemon, emulation, packages, probe, registries, report
from seatrial.engine.connection import PLATFORMS
from seatrial.engine.plan import Finding, Plan, State, findings, plan
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seatrial.engine.facts import Facts

_LOCK = Path("/run/seatrial-setup.lock")
_LOCK_SECONDS = 1800
_LOG_WIDTH = 140
_SHOWN = ("container engine", *PLATFORMS)


def run(*, check: bool) -> None:
    """Make this machine able to build and run the images, or report on it.

    Args:
        check: print the report and change nothing.

    Raises:
        UserError: the main job can't run here; says what is missing and how to mend it.
    """
    # Without a terminal rich takes 80 columns, which breaks paths that people copy.
    console = Console(width=None if sys.stdout.isatty() else _LOG_WIDTH)
    if check:
        _report(console)
    else:
        _mend(console)


def _report(console: Console) -> None:
    facts = probe.facts(registries.KNOWN)
    rows = findings(facts)
    console.print(report.table(facts, rows))
    faults = _faults(rows)
    if faults:
        subjects = ", ".join(fault.subject for fault in faults)
        raise UserError(f"this machine can't build and run the images yet: see {subjects} above")


def _mend(console: Console) -> None:
    facts = probe.facts()
    if plan(facts):
        with _locked(console):
            # Another setup may have done it all while this one waited.
            facts = probe.facts()
            facts = _execute(facts, plan(facts), console)
    rows = findings(facts)
    if faults := _faults(rows):
        raise UserError("; ".join(str(fault) for fault in faults))
    parts = [f"{row.subject} {row.detail}" for row in rows if row.subject in _SHOWN]
    console.print(f"ready: {', '.join(parts)}", highlight=False, soft_wrap=True)


@contextmanager
def _locked(console: Console) -> Iterator[None]:
    lock = FileLock(_LOCK)
    try:
        lock.acquire(timeout=0)
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


def _execute(facts: Facts, steps: Plan, console: Console) -> Facts:
    # The configuration comes before the packages: where services start at once, the daemon would
    # otherwise begin with the old image store.
    if steps.configure:
        console.print(f"writing {facts.configuration.path}", highlight=False, soft_wrap=True)
        daemon.configure(facts.configuration.path)
    if steps.packages:
        names = " ".join(packages.arguments(steps.packages, facts.system))
        console.print(f"installing {names}", highlight=False, soft_wrap=True)
        packages.install(steps.packages, facts.system)
    if steps.start:
        settings = probe.configuration(facts.configuration.path).settings
        layout = daemon.Layout.configured(settings)
        where = "with systemd" if facts.system.systemd else f"in the background, log {layout.log}"
        console.print(f"starting the engine {where}", highlight=False, soft_wrap=True)
        daemon.start(layout, systemd=facts.system.systemd)
    for platform in steps.register:
        console.print(f"registering an emulator for {platform}", highlight=False, soft_wrap=True)
        emulation.register(platform)
    return probe.facts() if steps else facts


def _faults(rows: tuple[Finding, ...]) -> list[Finding]:
    return [row for row in rows if row.state is State.FAULT]
