"""Taking back what setup did to /etc, on folders that stand for it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from seatrial.engine import journal, tree, undo
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG_AGO = 1_500_000_000_123_456_789


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """A folder with something of every kind."""
    folder = tmp_path / "etc"
    (folder / "apt" / "sources.list.d").mkdir(parents=True)
    (folder / "group").write_text("root:x:0:\n")
    (folder / "secret").write_text("hidden")
    (folder / "secret").chmod(0o600)
    (folder / "link").symlink_to("group")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "rc").mkdir(mode=0o750)
    (folder / "rc" / "binary").write_bytes(bytes(range(256)))
    (folder / "empty").mkdir()
    for path in (*folder.rglob("*"), folder):
        os.utime(path, ns=(LONG_AGO, LONG_AGO), follow_symlinks=False)
    return folder


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Folder of the record."""
    return tmp_path / "state" / "setup"


def exact(folder: Path) -> dict[str, tuple[tree.PathState, int]]:
    """Everything about every path, its time of change as well."""
    return {name: (entry, entry.changed) for name, entry in tree.capture(folder).items()}


def take_back(record: Path, etc: Path) -> list[str]:
    """Undo every run as `undo` does, without an engine or packages; return what is left."""
    left = []
    for run in journal.runs(record, etc):
        if not run.sealed:
            run.seal()
        now = tree.capture(etc)
        found = undo.difference(run.before, run.after, now, now)
        tree.put_back(etc, found.back, run.contents)
        last = tree.capture(etc)
        tree.put_times_back(etc, undo.times(run.before, run.after, now, last))
        run.remove()
        left += found.foreign
    return left


def _write_new(etc: Path) -> None:
    (etc / "docker").mkdir()
    (etc / "docker" / "daemon.json").write_text("{}")


def _change_content(etc: Path) -> None:
    (etc / "group").write_text("root:x:0:\ndocker:x:999:\n")


def _change_mode(etc: Path) -> None:
    (etc / "secret").chmod(0o644)


def _change_owner(etc: Path) -> None:
    os.chown(etc / "secret", 1234, 1234)


def _remove_file(etc: Path) -> None:
    (etc / "rc" / "binary").unlink()


def _remove_folder(etc: Path) -> None:
    shutil.rmtree(etc / "rc")


def _move_link(etc: Path) -> None:
    (etc / "link").unlink()
    (etc / "link").symlink_to("secret")


def _file_for_link(etc: Path) -> None:
    (etc / "dangling").unlink()
    (etc / "dangling").write_text("a file now")


def _link_for_file(etc: Path) -> None:
    (etc / "group").unlink()
    (etc / "group").symlink_to("secret")


def _folder_for_file(etc: Path) -> None:
    (etc / "group").unlink()
    (etc / "group").mkdir()


def _folder_mode(etc: Path) -> None:
    (etc / "rc").chmod(0o700)


def _nothing_but_time(etc: Path) -> None:
    (etc / "group").write_text((etc / "group").read_text())


def _all(etc: Path) -> None:
    for change in (_write_new, _change_content, _change_mode, _remove_folder, _move_link):
        change(etc)


@pytest.mark.parametrize(
    "change",
    [
        _write_new,
        _change_content,
        _change_mode,
        pytest.param(
            _change_owner, marks=pytest.mark.skipif(os.geteuid() != 0, reason="root may do that")
        ),
        _remove_file,
        _remove_folder,
        _move_link,
        _file_for_link,
        _link_for_file,
        _folder_for_file,
        _folder_mode,
        _nothing_but_time,
        _all,
    ],
    ids=lambda change: change.__name__.strip("_"),
)
def test_every_kind_of_change_is_taken_back(
    etc: Path, record: Path, change: Callable[[Path], None]
) -> None:
    before = exact(etc)
    with journal.recording(record, etc) as run:
        run.changes.engine = {"unit": "docker.service"}  # so that the run is kept
        change(etc)
    assert take_back(record, etc) == []
    assert exact(etc) == before
    assert not record.parent.exists()


def test_setup_that_changed_nothing_leaves_no_record(etc: Path, record: Path) -> None:
    with journal.recording(record, etc):
        pass
    assert not record.parent.exists()


def test_setup_that_failed_can_be_taken_back(etc: Path, record: Path) -> None:
    before = exact(etc)

    def setup() -> None:
        with journal.recording(record, etc) as run:
            run.write(etc / "docker" / "daemon.json", "{}\n")
            raise UserError("apt failed")

    with pytest.raises(UserError):
        setup()
    assert take_back(record, etc) == []
    assert exact(etc) == before


def test_several_setups_are_taken_back_one_after_the_other(etc: Path, record: Path) -> None:
    before = exact(etc)
    with journal.recording(record, etc) as run:
        run.write(etc / "apt" / "sources.list.d" / "one.sources", "first")
    with journal.recording(record, etc) as run:
        run.write(etc / "apt" / "sources.list.d" / "one.sources", "second")
        _change_content(etc)
    assert take_back(record, etc) == []
    assert exact(etc) == before


def _killed(record: Path, etc: Path, change: Callable[[journal.SetupRun], None]) -> None:
    """Run a setup whose process ends in the middle."""
    child = os.fork()
    if child == 0:
        with journal.recording(record, etc) as run:
            change(run)
            os._exit(9)
    os.waitpid(child, 0)


def test_setup_that_was_killed_can_be_taken_back(etc: Path, record: Path) -> None:
    before = exact(etc)
    _killed(record, etc, lambda run: run.write(etc / "docker" / "daemon.json", "{}\n"))
    assert [run.sealed for run in journal.runs(record, etc)] == [False]
    assert take_back(record, etc) == []
    assert exact(etc) == before


def test_file_of_a_killed_setup_that_somebody_changed_stays(etc: Path, record: Path) -> None:
    _killed(record, etc, lambda run: run.write(etc / "docker" / "daemon.json", "{}\n"))
    (etc / "docker" / "daemon.json").write_text('{"debug": true}')
    assert take_back(record, etc) == ["docker/daemon.json"]
    assert (etc / "docker" / "daemon.json").read_text() == '{"debug": true}'


@pytest.fixture
def changed(etc: Path, record: Path) -> Path:
    """The folder after a setup that wrote two files and changed another."""
    with journal.recording(record, etc) as run:
        run.write(etc / "docker" / "daemon.json", "{}\n")
        run.write(etc / "apt" / "pin", "pinned\n")
        _change_content(etc)
    return etc


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda etc: (etc / "docker/daemon.json").write_text("else"), "docker/daemon.json"),
        (lambda etc: (etc / "docker/daemon.json").chmod(0o600), "docker/daemon.json"),
        (lambda etc: (etc / "group").write_text("somebody:x:1:\n"), "group"),
        (lambda etc: (etc / "group").unlink(), "group"),
    ],
)
def test_what_somebody_changed_since_stays_and_is_named(
    changed: Path, record: Path, change: Callable[[Path], None], named: str
) -> None:
    change(changed)
    there = tree.capture(changed).get(named)
    assert take_back(record, changed) == [named]
    assert tree.capture(changed).get(named) == there
    assert not (changed / "apt" / "pin").exists(), "the rest was not taken back"


def test_what_somebody_removed_since_is_nothing_to_take_back(changed: Path, record: Path) -> None:
    (changed / "apt" / "pin").unlink()
    assert take_back(record, changed) == []


def test_what_setup_never_touched_stays_without_a_word(changed: Path, record: Path) -> None:
    (changed / "secret").write_text("another")
    (changed / "docker" / "key.json").write_text("{}")
    (changed / "new").write_text("new")
    assert take_back(record, changed) == []
    assert (changed / "secret").read_text() == "another"
    assert (changed / "docker" / "key.json").exists()
    assert (changed / "new").exists()
    assert not (changed / "docker" / "daemon.json").exists()


def test_what_packages_take_along_is_put_back(etc: Path, record: Path) -> None:
    """A package that is removed may take files along that were there before it came."""
    before = exact(etc)
    with journal.recording(record, etc) as run:
        run.write(etc / "docker" / "daemon.json", "{}\n")
    [run] = journal.runs(record, etc)
    earlier = tree.capture(etc, keep=run.contents)
    (etc / "rc" / "binary").unlink()
    found = undo.difference(run.before, run.after, earlier, tree.capture(etc))
    tree.put_back(etc, found.back, run.contents)
    now = tree.capture(etc)
    tree.put_times_back(etc, undo.times(run.before, run.after, earlier, now))
    assert not found.foreign
    assert {name: state for name, (state, _) in before.items()} == now


def test_record_is_for_root_alone(etc: Path, record: Path) -> None:
    with journal.recording(record, etc) as run:
        _change_content(etc)
        assert record.stat().st_mode & 0o077 == 0
        assert run.contents.stat().st_mode & 0o077 == 0


def test_file_is_written_whole_and_readable(etc: Path, record: Path) -> None:
    before = os.umask(0o077)
    try:
        with journal.recording(record, etc) as run:
            run.write(etc / "docker" / "daemon.json", "{}\n")
    finally:
        os.umask(before)
    path = etc / "docker" / "daemon.json"
    assert path.read_text() == "{}\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_place_that_cannot_be_written_is_one_line(etc: Path, record: Path) -> None:
    (etc / "docker").write_text("no folder")
    with (
        pytest.raises(UserError, match=r"daemon\.json can't be written: ") as fault,
        journal.recording(record, etc) as run,
    ):
        run.write(etc / "docker" / "daemon.json", "{}\n")
    assert "\n" not in str(fault.value)
