"""Folders that go with the process that made them, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from seatrial import scratch

if TYPE_CHECKING:
    from collections.abc import Iterator


HOLDS_ONE = (
    "import pathlib, sys; from seatrial import scratch\n"
    "with scratch.folder(pathlib.Path(sys.argv[1])) as folder:\n"
    "    (folder / 'secret').write_text('x'); print(folder, flush=True); input()"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a folder until it is ended."""
    command = [sys.executable, "-c", HOLDS_ONE, str(tmp_path)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout
    assert process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_folder_goes_with_the_block(tmp_path: Path) -> None:
    with scratch.folder(tmp_path) as folder:
        (folder / "file").touch()
        assert folder.stat().st_mode & 0o077 == 0
    assert not list(tmp_path.iterdir())


def test_folder_goes_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), scratch.folder(tmp_path):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_folder_of_a_process_that_runs_stays(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    [held] = tmp_path.iterdir()
    with scratch.folder(tmp_path):
        assert (held / "secret").exists()
    assert scratch.is_held(held)
    holder.communicate("\n")
    assert not held.exists()


def test_folder_of_a_killed_process_goes_with_the_next_one(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    [held] = tmp_path.iterdir()
    holder.kill()
    holder.wait()
    assert held.exists()
    assert not scratch.is_held(held)
    with scratch.folder(tmp_path):
        assert not held.exists()


def test_folders_of_others_stay(tmp_path: Path) -> None:
    for name in ("other", "seatrial-build-x"):
        (tmp_path / name).mkdir()
    (tmp_path / "seatrial.link").symlink_to(tmp_path / "other")
    (tmp_path / "seatrial.file").touch()
    before = sorted(tmp_path.iterdir())
    assert scratch.remove_abandoned(tmp_path) == []
    assert sorted(tmp_path.iterdir()) == before


def test_many_at_once_do_not_take_each_other_s(tmp_path: Path) -> None:
    lost: list[Path] = []

    def make() -> None:
        for _ in range(50):
            with scratch.folder(tmp_path) as folder:
                if not folder.is_dir():
                    lost.append(folder)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not lost
    assert not list(tmp_path.iterdir())


def test_temporary_files_of_a_run_go_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with scratch.for_temporary_files() as place:
        Path(tempfile.mkdtemp()).joinpath("file").touch()
        command = [sys.executable, "-c", "import tempfile; print(tempfile.mkdtemp())"]
        made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert Path(made.strip()).parent == place
        assert len(list(place.iterdir())) == 2
    assert not list(tmp_path.iterdir())
    assert os.environ["TMPDIR"] == str(tmp_path)
    assert tempfile.gettempdir() == str(tmp_path)
