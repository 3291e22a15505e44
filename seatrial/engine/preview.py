"""`invoke setup --dry-run`: everything that setup would do on this machine."""

from __future__ import annotations

import difflib
import shlex
from typing import TYPE_CHECKING

from seatrial.engine import daemon, emulation, journal, packages
from seatrial.errors import UserError
from seatrial.project import command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from seatrial.engine.facts import Facts
    from seatrial.engine.plan import Plan


def show(facts: Facts, steps: Plan, console: Console) -> None:
    """Print what setup would do, in its order; nothing is changed.

    Args:
        facts: about the machine.
        steps: what it would do.
        console: where it is printed.
    """
    for line in _lines(facts, steps):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _lines(facts: Facts, steps: Plan) -> Iterator[str]:
    yield "setup would change this machine as follows; nothing has been changed:"
    yield f"record: {journal.FOLDER}, for {command('setup --undo')}"
    if steps.configure:
        yield from _file(facts.configuration.path, daemon.configuration())
    if steps.packages:
        yield from _packages(facts, steps)
    if steps.start:
        yield f"service: {_start(facts, steps)}"
    for platform in steps.register:
        machine = emulation.ARCHITECTURES[platform]
        emulator = emulation.interpreter(platform) or machine.interpreters()[0]
        yield (
            f"kernel: register {emulator} for {platform} as"
            f" {emulation.BINFMT / emulation.entry_name(platform)}"
        )


def _packages(facts: Facts, steps: Plan) -> Iterator[str]:
    written: dict[Path, str] = {}
    with packages.Apt.copy() as apt:

        def write(path: Path, text: str) -> None:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            written[packages.Apt().settings / path.relative_to(apt.settings)] = text

        try:
            wanted, expected = packages.prepare(steps.packages, facts.system, apt, write)
            unknown = ""
        except UserError as error:
            wanted = packages.arguments(steps.packages, facts.system)
            expected, unknown = [], str(error)
    yield "command: dpkg --configure -a"
    yield "command: apt-get update"
    for path, text in written.items():
        yield from _file(path, text)
    yield f"command: apt-get install --yes --no-install-recommends {shlex.join(wanted)}"
    for name, old, new in expected:
        yield f"package: {name} {f'{old} -> {new}' if old else f'{new} (new)'}"
    if unknown:
        yield f"package: what these need in turn can't be told, and setup would fail: {unknown}"
    yield f"log: {packages.LOG}"


def _start(facts: Facts, steps: Plan) -> str:
    if facts.system.systemd:
        return "systemctl start docker.service"
    settings = facts.configuration.settings
    layout = daemon.Layout.configured(daemon.SETTINGS if steps.configure else settings)
    return f"start dockerd in the background, log {layout.log}"


def _file(path: Path, text: str) -> Iterator[str]:
    old = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
    yield f"file: {path} ({'new, mode 0644' if old is None else 'changed'})"
    for line in difflib.unified_diff(
        (old or "").splitlines(),
        text.splitlines(),
        "/dev/null" if old is None else str(path),
        str(path),
        lineterm="",
    ):
        yield f"    {line}"
