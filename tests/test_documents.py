"""Files that somebody else has named or written: each fault is one line, and nothing blocks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from seatrial import documents
from seatrial.contract import load
from seatrial.errors import UserError
from seatrial.mutants import loader
from seatrial.release import policy, record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

READERS: list[tuple[str, Callable[[Path], object]]] = [
    ("contract", load),
    ("mutant", loader.read),
    ("policy", policy.load),
    ("qualification record", record.read),
]


def _no_file(path: Path) -> str:
    assert not path.exists()
    return "no such .* file"


def _folder(path: Path) -> str:
    path.mkdir()
    return "it is no regular file"


def _pipe(path: Path) -> str:
    os.mkfifo(path)
    return "it is no regular file"


def _device(path: Path) -> str:
    path.symlink_to("/dev/zero")
    return "it is no regular file"


def _bytes(path: Path) -> str:
    path.write_bytes(b"\xff\xfe\x00")
    return "it is not UTF-8 text"


def _huge(path: Path) -> str:
    with path.open("wb") as file:
        file.truncate(documents.MOST_JSON_BYTES + 1)
    return "it is larger than"


def _prose(path: Path) -> str:
    path.write_text("once upon a time")
    return "not valid (TOML|JSON) at line 1"


@pytest.mark.parametrize("make", [_no_file, _folder, _pipe, _device, _bytes, _huge, _prose])
@pytest.mark.parametrize(("noun", "read"), READERS, ids=[noun for noun, _ in READERS])
def test_file_that_is_no_document(
    tmp_path: Path, noun: str, read: Callable[[Path], object], make: Callable[[Path], str]
) -> None:
    path = tmp_path / "it"
    fault = make(path)
    with pytest.raises(UserError, match=fault) as error:
        read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    if make is not _prose:
        assert noun in str(error.value)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('"\\u001b[2J" = 1', policy.load),
        ('"\\u001b[2J" = 1', load),
        ('{"_type": 1, "\\u001b[2J": 1}', record.read),
    ],
)
def test_words_of_a_file_move_no_cursor(
    tmp_path: Path, text: str, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "it"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value).isprintable()
