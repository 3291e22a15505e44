"""Read a TOML file that somebody else has named.

A contract names the contract that it extends, so the file may be anything: a device, a pipe, a
secret. No error repeats a word of it.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from typing import TYPE_CHECKING, Any

from seatrial.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 1 << 20
MOST_DOTS = 100
"""Dots on a line. The time and memory that tomllib takes for a dotted key grow with the square of
its parts: 8 s for 64 KiB of them, and more memory than there is for 1 MiB."""


def read(path: Path) -> dict[str, Any]:
    """Read a regular file that holds TOML.

    Raises:
        UserError: it is not there, too large, of another kind, or not TOML.
    """
    try:
        text = _content(path).decode("utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such contract file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: can't be read as a contract: it is not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{path}: can't be read as a contract: {error.strerror}") from None
    # A carriage return alone ends no line in TOML.
    if any(line.count(".") > MOST_DOTS for line in text.split("\n")):
        raise UserError(f"{path}: not a contract: a line has more than {MOST_DOTS} dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UserError(f"{path}: not a contract: its values are nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError is one; a number of 4301 digits is another
        place = re.search(r"\(at (line \d+, column \d+|end of document)\)$", str(error))
        raise UserError(f"{path}: not valid TOML{f' at {place[1]}' if place else ''}") from None


def _content(path: Path) -> bytes:
    if "\0" in str(path):
        raise OSError(0, "its name holds a zero byte")
    # To open a device may set it off, and to open a pipe waits for a writer.
    _require_regular(path.stat())
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        _require_regular(os.fstat(descriptor))  # the name may stand for another file by now
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError(0, f"it is larger than {MOST_BYTES >> 20} MiB")
    return content


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "it is no regular file")
