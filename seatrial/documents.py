"""Read a TOML or JSON file that somebody else has named or written.

A contract names the contract that it extends, and a record comes from another machine, so the file
may be anything: a device, a pipe, a secret. Where it can't be read, no error repeats a word of it.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from typing import TYPE_CHECKING, Any

from seatrial.errors import UserError, printable

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

MOST_BYTES = 1 << 20
"""Of a TOML file, which a person writes."""
MOST_JSON_BYTES = 64 << 20
"""Of a JSON file: the longest record of a trial that was seen has 2 MB."""
MOST_DOTS = 100
"""Dots on a line. The time and memory that tomllib takes for a dotted key grow with the square of
its parts: 8 s for 64 KiB of them, and more memory than there is for 1 MiB."""


def toml(path: Path, noun: str) -> dict[str, Any]:
    """Read a regular file that holds TOML.

    Args:
        path: the file.
        noun: what it should be, such as `contract`.

    Raises:
        UserError: it is not there, too large, of another kind, or not TOML.
    """
    text = _text(path, noun, MOST_BYTES)
    # A carriage return alone ends no line in TOML.
    if any(line.count(".") > MOST_DOTS for line in text.split("\n")):
        raise UserError(f"{path}: not a {noun}: a line has more than {MOST_DOTS} dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UserError(f"{path}: not a {noun}: its values are nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError is one; a number of 4301 digits is another
        place = re.search(r"\(at (line \d+, column \d+|end of document)\)$", str(error))
        raise UserError(f"{path}: not valid TOML{f' at {place[1]}' if place else ''}") from None


def read_json(path: Path, noun: str) -> Any:  # noqa: ANN401
    """Read a regular file that holds JSON; arguments and errors as of `toml`."""
    text = _text(path, noun, MOST_JSON_BYTES)
    try:
        return json.loads(text)
    except RecursionError:
        raise UserError(f"{path}: not a {noun}: its values are nested too deeply") from None
    except ValueError as error:
        place = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{path}: not valid JSON{place}") from None


def describe(fault: ErrorDetails) -> str:
    """Say on one line which value of a document breaks its schema, and how."""
    key = printable(".".join(str(part) for part in fault["loc"]))
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if fault["type"] == "missing":
        return f"{key}: required, but not given"
    message = printable(fault["msg"].removeprefix("Value error, "))
    message = message[0].lower() + message[1:]
    return f"{key}: {message}" if key else message


def first_fault(path: Path, error: ValidationError) -> UserError:
    """Say on one line what breaks a document's schema first."""
    return UserError(f"{path}: {describe(error.errors()[0])}")


def _text(path: Path, noun: str, most: int) -> str:
    try:
        return _content(path, most).decode("utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such {noun} file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: can't be read as a {noun}: it is not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{path}: can't be read as a {noun}: {error.strerror}") from None


def _content(path: Path, most: int) -> bytes:
    if "\0" in str(path):
        raise OSError(0, "its name holds a zero byte")
    # To open a device may set it off, and to open a pipe waits for a writer.
    _require_regular(path.stat())
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        _require_regular(os.fstat(descriptor))  # the name may stand for another file by now
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(0, f"it is larger than {most >> 20} MiB")
    return content


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "it is no regular file")
