"""The record of what setup changed on this machine, for `invoke setup --undo`.

It lies in /var/lib/seatrial/setup, apart from any checkout, and only root may read it: the state of
/etc before and after each run that changed something, the contents of what changed, and what was
installed, started and registered. The newest run is undone first.

Every step is noted before it is done, so a run that was killed can be undone as well.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from seatrial import files
from seatrial.engine import tree
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from seatrial.engine.tree import Tree

FOLDER = Path("/var/lib/seatrial/setup")
ETC = Path("/etc")
VOLATILE = ("adjtime", "hostname", "hosts", "machine-id", "mtab", "resolv.conf")
"""Paths below /etc that the system itself writes while setup runs; undo leaves them alone."""


@dataclass
class Changes:
    """Changes by a run of setup, beside those that /etc shows."""

    begun: str
    wrote: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file that setup itself wrote, by path below /etc."""
    installed: list[str] = field(default_factory=list)
    """Packages that were not there before."""
    upgraded: dict[str, str] = field(default_factory=dict)
    """Package to `OLD -> NEW`."""
    engine: dict[str, str] = field(default_factory=dict)
    """Engine that was started: `unit`, or `pid` and `started` of its process."""
    registered: list[str] = field(default_factory=list)
    """Entries of binfmt_misc."""
    boot: str = ""
    """Boot in which the entries were made: a reboot removes them and frees their names."""


@dataclass
class SetupRun:
    """The record of a run of setup."""

    folder: Path
    etc: Path
    changes: Changes

    @property
    def contents(self) -> Path:
        """The folder of file contents, named by their SHA-256."""
        return self.folder / "contents"

    @property
    def sealed(self) -> bool:
        """Tell whether the run ended, well or not; a killed one did not."""
        return (self.folder / "after.json").exists()

    @property
    def before(self) -> Tree:
        """The state of /etc before the run."""
        return _read_tree(self.folder / "before.json")

    @property
    def after(self) -> Tree:
        """The state of /etc after the run."""
        return _read_tree(self.folder / "after.json")

    def write(self, path: Path, text: str) -> None:
        """Record a file below /etc, then write it atomically.

        Raises:
            UserError: it can't be written.
        """
        self.changes.wrote[str(path.relative_to(self.etc))] = _digest(text)
        self.note()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomically(path, text, mode=0o644)
        except OSError as error:
            raise UserError(f"{path} can't be written: {error.strerror}") from error

    def note(self) -> None:
        """Save the record, before the step that it describes."""
        _write(self.folder / "changes.json", asdict(self.changes))

    def seal(self) -> None:
        """Record the state of /etc after the run, and drop contents of unchanged files."""
        before, after = self.before, tree.capture(self.etc, without=VOLATILE)
        for name, digest in self.changes.wrote.items():
            # Somebody has changed that file since a run that was killed: record what setup wrote.
            if (there := after.get(name)) and there.content != digest:
                after[name] = tree.PathState("file", 0o644, 0, 0, digest)
        _write(self.folder / "after.json", {name: asdict(entry) for name, entry in after.items()})
        needed = {entry.content for name, entry in before.items() if after.get(name) != entry}
        for kept in self.contents.iterdir():
            if kept.name not in needed:
                kept.unlink()

    def is_empty(self) -> bool:
        """Tell whether the run changed nothing."""
        changes = self.changes
        return self.before == self.after and not (
            changes.installed or changes.upgraded or changes.engine or changes.registered
        )

    def remove(self) -> None:
        """Delete the record of the run, and folders that are empty then."""
        shutil.rmtree(self.folder)
        for folder in (self.folder.parent, self.folder.parent.parent):
            if any(folder.iterdir()):
                return
            folder.rmdir()


def runs(folder: Path = FOLDER, etc: Path = ETC) -> list[SetupRun]:
    """Find the runs that are on record, the newest first."""
    if not folder.is_dir():
        return []
    numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    found = []
    for number in reversed(numbers):
        changes = folder / str(number) / "changes.json"
        if changes.exists():  # else the run was killed before it changed anything
            stored = json.loads(changes.read_text(encoding="utf-8"))
            found.append(SetupRun(changes.parent, etc, Changes(**stored)))
    return found


@contextmanager
def recording(folder: Path = FOLDER, etc: Path = ETC) -> Iterator[SetupRun]:
    """Record the changes of a run of setup, even if it fails."""
    for run in runs(folder, etc):
        if not run.sealed:
            run.seal()
    last = max((int(path.name) for path in folder.glob("*") if path.name.isdigit()), default=0)
    run = SetupRun(
        folder / str(last + 1), etc, Changes(datetime.now(UTC).isoformat("T", "seconds"))
    )
    run.contents.mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    state = tree.capture(etc, without=VOLATILE, keep=run.contents)
    _write(run.folder / "before.json", {name: asdict(entry) for name, entry in state.items()})
    run.note()
    try:
        yield run
    finally:
        run.seal()
        if run.is_empty():
            run.remove()


def _write(path: Path, value: Mapping[str, object]) -> None:
    files.write_atomically(path, json.dumps(value))


def _read_tree(path: Path) -> Tree:
    stored = json.loads(path.read_text(encoding="utf-8"))
    return {name: tree.PathState(**entry) for name, entry in stored.items()}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
