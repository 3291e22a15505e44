"""Keep secrets out of logs and out of the process list."""

from __future__ import annotations

import atexit
import io
import re
import threading
from functools import cached_property
from typing import TYPE_CHECKING

from mlflow_entrypoint import spellings
from mlflow_entrypoint.addresses import MASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping
    from typing import TextIO

_PLACEHOLDER = "_MLFLOW_ENTRYPOINT_ARGUMENT_"
_HARMLESS = re.compile(
    r"(?:--[\w-]+=)?(?:(?:s3|gs|hdfs|dbfs|file|mlflow-artifacts)://)?(?!.*://)"
    r"(?:[\w.,:*/-]|\$?\$\{\w+\})*"
)
"""Arguments that the process list may show: words, numbers, hosts, paths, places of artifacts."""
_SECRET_OPTION = re.compile(
    r"--[\w-]*(?:password|passwd|passphrase|token|secret|api-?key|access-?key)", re.IGNORECASE
)
_FOREIGN = re.compile(r"(?<![\w+.-])([A-Za-z][\w+.-]*+://[^\s:/?#@]*+):[^\s/?#@]++@")
"""A password in an address that nobody told this program of, such as one out of the database."""
_ANYWHERE = 8
"""Shorter secrets are masked where they stand as a word, not inside of names and paths."""


def hide(arguments: list[str], environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Move arguments that may hold a secret into the environment; `reveal` undoes it.

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
        holds = "=" in argument and _SECRET_OPTION.fullmatch(argument.partition("=")[0])
        if follows or holds or not _HARMLESS.fullmatch(argument):
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


def values_of_secret_options(words: Iterable[str]) -> set[str]:
    """The values of options such as `--ssl-keyfile-password`."""
    found: set[str] = set()
    before = ""
    for word in words:
        name, equals, value = word.partition("=")
        if equals and _SECRET_OPTION.fullmatch(name):
            found.add(value)
        elif _SECRET_OPTION.fullmatch(before):
            found.add(word)
        before = word
    return found


class _Secret:
    """Secret, and how to find it."""

    def __init__(self, value: str) -> None:
        self._core = spellings.core(value)
        self._value = value

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        found = spellings.pattern(self._value)
        if len(self._value) < _ANYWHERE:
            found = rf"(?<![\w.-])(?!(?<=/){found}/){found}(?![\w.-])"
        return re.compile(found)

    def places(self, text: str) -> list[tuple[int, int]]:
        """Find its places in `text`: starts and ends."""
        # Nearly every line has none, and to look for the core is far quicker than the pattern.
        if self._core not in text:
            return []
        return [found.span() for found in self._pattern.finditer(text)]


class KnownSecrets:
    """The secrets that this program was given."""

    def __init__(self) -> None:
        """None yet."""
        self._secrets: dict[str, _Secret] = {}

    def learn(self, values: Iterable[str]) -> None:
        """Add secrets."""
        for value in filter(_can_be_told, values):
            self._secrets.setdefault(value, _Secret(value))

    def mask(self, text: str) -> str:
        """`text` without any of them.

        All are looked for in the text as it was: one may begin inside of another one.
        """
        places = sorted(place for secret in self._secrets.values() for place in secret.places(text))
        shown, position = "", 0
        for start, end in places:
            if start >= position:
                shown += text[position:start] + MASK
            position = max(position, end)
        return _FOREIGN.sub(rf"\1:{MASK}@", shown + text[position:])


def _can_be_told(value: str) -> bool:
    """Tell whether it is more than a few signs, which stand everywhere."""
    return len(value) >= _ANYWHERE or any(map(str.isalnum, value))


KNOWN = KnownSecrets()
"""Secrets of this process and of those forked from it."""


class MaskedStream(io.TextIOWrapper):
    """A text stream that masks the known secrets in all that is written to it."""

    def __init__(self, stream: TextIO) -> None:
        """Write to where `stream` writes."""
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=True,
        )
        self._held: list[str] | None = None
        self._turn = threading.RLock()

    def write(self, text: str) -> int:
        """Write `text`; the answer counts its own characters, as callers expect."""
        masked = KNOWN.mask(text)
        with self._turn:
            if self._held is None:
                super().write(masked)
            else:
                self._held.append(masked)
        return len(text)

    def hold(self) -> None:
        """Keep what is written from now on, until the program ends at the latest."""
        self._held = []
        atexit.register(self.release)

    def release(self) -> None:
        """Write what was kept, and keep nothing any more."""
        with self._turn:
            super().write("".join(self.drop()))
            self.flush()

    def drop(self) -> list[str]:
        """Give up what was kept, and keep nothing any more."""
        with self._turn:
            held, self._held = self._held or [], None
        return held
