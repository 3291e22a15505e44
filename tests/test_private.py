"""Files with passwords in them: nobody else may read them, whatever the umask says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from seatrial import private
from seatrial.build import network
from seatrial.model import build_docker

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "s3cret-of-the-index"
INDEX = f"https://team:{PASSWORD}@index.example.org/simple"


@pytest.fixture(autouse=True)
def open_to_all() -> Iterator[None]:
    """The umask that keeps nobody out."""
    before = os.umask(0)
    yield
    os.umask(before)


def _readable(folder: Path) -> list[Path]:
    """The files with the password in them that somebody else may read."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and PASSWORD in path.read_text(encoding="utf-8"):
            above = [each for each in (path, *path.parents) if each.is_relative_to(folder)]
            if all(each.stat().st_mode & 0o077 for each in above):
                found.append(path)
    return found


def test_secrets_of_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@proxy:3128")
    monkeypatch.setenv("PIP_INDEX_URL", INDEX)
    with network.secrets() as secrets:
        file = Path(secrets["PROXIES"])
        assert file.read_text(encoding="utf-8").count(PASSWORD) >= 4
        assert file.stat().st_mode & 0o777 == private.FILE
        assert file.parent.stat().st_mode & 0o777 == private.FOLDER
    assert not file.exists()


@pytest.mark.parametrize("name", ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"])
def test_index_of_the_stand_in(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bases" / "python-slim" / "etc"
    folder.mkdir(parents=True)
    (folder / "pip.conf").write_text("from an earlier build")
    build_docker.write_settings(folder, None, {name: INDEX})
    assert PASSWORD in (folder / "pip.conf").read_text(encoding="utf-8")
    assert (folder / "pip.conf").stat().st_mode & 0o777 == private.FILE
    assert folder.parent.stat().st_mode & 0o777 == private.FOLDER
    assert not _readable(tmp_path)


def test_index_without_a_password_may_be_read_in_the_image(tmp_path: Path) -> None:
    build_docker.write_settings(
        tmp_path / "x" / "etc", None, {"PIP_INDEX_URL": "https://index/simple"}
    )
    assert (tmp_path / "x" / "etc" / "pip.conf").stat().st_mode & 0o777 == 0o644
