"""Keep secrets out of logs and out of the process list."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping
    from typing import TextIO

MASK = "***"
_PLACEHOLDER = "_MLFLOW_ENTRYPOINT_ARGUMENT_"
_USER_INFO = re.compile(r"(?P<before>[A-Za-z][\w+.-]*://[^\s:/?#@'\"]*:)(?!\d+/)[^\s'\"]+(?=@)")
_QUERY = re.compile(r"(?P<before>[?&;](?:\w*password|passwd|\w*passphrase|pwd)=)[^&;\s'\"]+", re.I)
_SECRET_OPTION = re.compile(r"--[\w-]*(?:password|passphrase|token)")
_SECRET_OPTION_WITH_VALUE = re.compile(rf"{_SECRET_OPTION.pattern}[\s=]")
"""By itself, or among the options of another program, as in `--uvicorn-opts`."""
_KNOWN_LENGTH = 8
"""Passwords of fewer characters are masked in URLs only: as plain words they'd be everywhere."""


def mask(text: str) -> str:
    """`text` with the passwords of its URLs masked."""
    return _QUERY.sub(rf"\g<before>{MASK}", _USER_INFO.sub(rf"\g<before>{MASK}", text))


def hide(arguments: list[str], environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Move arguments that hold a secret into the environment; `reveal` undoes it.

    Args:
        arguments: the command line, without the program.
        environment: of this process.

    Returns:
        the arguments with names in the place of secrets, and the whole new environment.
    """
    hidden, moved = list(arguments), dict(environment)
    for index, argument in enumerate(arguments):
        if argument.startswith(f"${{{_PLACEHOLDER}"):
            continue
        follows = index > 0 and _SECRET_OPTION.fullmatch(arguments[index - 1])
        holds = _SECRET_OPTION_WITH_VALUE.search(argument)
        if follows or holds or mask(argument) != argument:
            name = f"{_PLACEHOLDER}{index}"
            hidden[index], moved[name] = f"${{{name}}}", argument
    return hidden, moved


def reveal(arguments: list[str], environment: MutableMapping[str, str]) -> list[str]:
    """The arguments as they were before `hide`, whose variables are removed from `environment`."""
    moved = {
        f"${{{name}}}": environment.pop(name)
        for name in list(environment)
        if name.startswith(_PLACEHOLDER)
    }
    return [moved.get(argument, argument) for argument in arguments]


def passwords_of(url: str) -> list[str]:
    """The password in a URL, as it stands there and decoded; none where there's no password."""
    match = _USER_INFO.search(url)
    if match is None:
        return []
    password = match[0].removeprefix(match["before"])
    return [password, unquote(password)]


class MaskedStream(io.TextIOWrapper):
    """A text stream that masks passwords in all that is written to it."""

    def __init__(self, stream: TextIO) -> None:
        """Write to where `stream` writes."""
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=True,
        )
        self._known: re.Pattern[str] | None = None

    def learn(self, passwords: Iterable[str]) -> None:
        """Mask these wherever they stand, not only in URLs."""
        long = sorted({word for word in passwords if len(word) >= _KNOWN_LENGTH}, key=len)
        self._known = re.compile("|".join(map(re.escape, reversed(long)))) if long else None

    def write(self, text: str) -> int:
        """Write `text`; the answer counts its own characters, as callers expect."""
        masked = mask(text)
        super().write(self._known.sub(MASK, masked) if self._known else masked)
        return len(text)
