"""The one kind of error that is meant for the person at the keyboard."""

import re
import sys
from collections.abc import Callable

_USER = re.compile(r"//(?:[^/\s]*|(?![^/\s@]*:\d+/)[^/\s:@]*:[^\s@]*)@")
"""User and password in an address: a `/` may stand in a password, though none should."""
_STEERS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Sequences that programs colour their output with."""
_WORD = re.compile(r"\S+")


class UserError(Exception):
    """A fault that the user can mend: one line that says what is wrong, where, and how to mend it.

    The tasks and the pytest plugin print it as it is, without a traceback, and exit non-zero.
    """


def exit_code(program: Callable[[], int]) -> int:
    """Run a program that is started by `python -m`.

    Args:
        program: gives its own exit code.

    Returns:
        that code; 2 after a `UserError` and 130 after a Ctrl-C, each told in one line.
    """
    try:
        return program()
    except UserError as error:
        sys.stderr.write(f"seatrial: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("seatrial: interrupted\n")
        return 130


def reason(error: BaseException) -> str:
    """What an error says, on one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def plain(text: str) -> str:
    """Text that others may have written, without what would steer a terminal."""
    kept = (
        character if character.isprintable() or character == "\t" else "?"
        for character in _STEERS.sub("", text)
    )
    return "".join(kept)


def printable(text: str) -> str:
    """The same as `plain`, on one line."""
    return plain(" ".join(text.split()))


def without_password(text: str) -> str:
    """The same address, or text with addresses, for somebody else's eyes."""
    return _WORD.sub(_without_password, text)


def _without_password(word: re.Match[str]) -> str:
    # Behind the last @ is no user; a search there takes quadratic time.
    before, at, after = word[0].rpartition("@")
    return _USER.sub("//", before + at) + after
