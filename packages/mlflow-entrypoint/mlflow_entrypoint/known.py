"""Secrets that this program was given: in variables, in the command, and in MLflow's own files."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from mlflow_entrypoint import addresses, options, secrecy
from mlflow_entrypoint.secret_files import SECRETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ADDRESS = ("_URI", "_URL")
_PUBLIC = ("_USERNAME", "_ACCESS_KEY_ID")
"""Endings of variables whose value as a whole is no secret."""
_SECRET = re.compile(
    r"PASSW(?:OR)?D|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|API_?KEY|(?:ACCESS|PRIVATE|ACCOUNT)_KEY"
    r"|CONNECTION_STRING",
    re.IGNORECASE,
)
"""Names of other variables whose value is a secret, such as OPENAI_API_KEY."""
_GUESSED = 8
"""The shortest value of one of those: `true` or `60` is a setting."""
_STORES = tuple(option for option in options.VALUED if option.endswith("-store-uri"))


def learn(environment: Mapping[str, str], arguments: Iterable[str]) -> None:
    """Learn the secrets of all variables and of a command line, to keep them out of the log."""
    words = list(arguments)
    secrecy.KNOWN.learn(in_variables(environment) | in_arguments(words))


def in_variables(environment: Mapping[str, str]) -> set[str]:
    """The secrets among variables."""
    found: set[str] = set()
    for name, value in environment.items():
        found |= addresses.secrets_of(value)
        if name.endswith(_PUBLIC) or not value:
            continue
        if name in SECRETS and name.endswith(_ADDRESS):
            found |= addresses.secrets_of_store(value)
        elif name in SECRETS or (_SECRET.search(name) and _is_value(value)):
            found.add(value)
            found |= addresses.secrets_of_connection_string(value)
    return found


def _is_value(text: str) -> bool:
    """Tell whether it is more than a setting, and not the path of a file."""
    return len(text) >= _GUESSED and not text.startswith("/")


def in_arguments(words: list[str]) -> set[str]:
    """The secrets in a command line, and in the options that it has for other programs."""
    found = secrecy.values_of_secret_options(words)
    for before, word in zip(["", *words], words, strict=False):
        found |= addresses.secrets_of(word)
        name, _, value = word.partition("=")
        if before in _STORES:
            found |= addresses.secrets_of_store(word)
        elif name in _STORES:
            found |= addresses.secrets_of_store(value)
        elif " " in word:
            found |= secrecy.values_of_secret_options(_split(word))
    return found


def _split(word: str) -> list[str]:
    try:
        return shlex.split(word)
    except ValueError:
        return word.split()
