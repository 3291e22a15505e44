"""Files that other processes read while they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seatrial import files

if TYPE_CHECKING:
    from pathlib import Path


def test_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("before")
    with path.open() as reader:
        files.write_atomically(path, "after, ü", mode=0o640)
        assert reader.read() == "before"
    assert path.read_text(encoding="utf-8") == "after, ü"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]
