"""Values that a server can't start with, whatever they were meant to be.

A file of variables for Docker (`--env-file`) keeps the quotes that a shell would remove, and the
line ends of Windows. Neither is a part of any of these values, and what MLflow and the drivers say
about such a value is about something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_entrypoint import options, settings
from mlflow_entrypoint.errors import EntrypointError
from mlflow_entrypoint.secret_files import SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping

_QUOTES = "\"'`"
_LINE_ENDS = "\r\n"
_ADDRESSES = ("_URI", "_URL")
_FREE = ("_OPTS", "_USERNAME")
"""Endings of variables in which blanks or quotes may stand."""
_CHECKED = frozenset(
    {
        *(name for name in options.VALUED.values() if name and not name.endswith(_FREE)),
        *(name for name in SECRETS if name.endswith(_ADDRESSES)),
        *settings.ALWAYS,
        *settings.SERVER,
        *settings.POOL,
        settings.POOL_CLASS,
        settings.DATABASE_WAIT[0],
        settings.SCHEMA_LOCK_WAIT[0],
        settings.DATABASE_TIMEOUT[0],
        settings.MAX_REQUEST_BYTES[0],
        settings.SCHEMA_UPGRADE,
        settings.PRELOAD,
        "MLFLOW_SERVER_HOST",
        "MLFLOW_SERVER_PORT",
        "ARTIFACT_ROOT",
        "MLFLOW_AUTH_CONFIG_PATH",
        "MLFLOW_S3_ENDPOINT_URL",
    }
)
_SECRET = frozenset(name for name in SECRETS if not name.endswith(_ADDRESSES))
"""Variables that may hold any character, but for a line end around it."""
_NUMBERS = (
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE",
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW",
    "MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE",
)


def check(environment: Mapping[str, str], given: Mapping[str, str]) -> None:
    """See that the values of a server have nothing around them.

    Args:
        environment: the variables.
        given: the options of the command line, by their long names.

    Raises:
        EntrypointError: a value has quotes, blanks or line ends around it, or is no number.
    """
    named = {option: value for option, value in given.items() if not _is_free(option)}
    named |= {name: environment[name] for name in sorted(_CHECKED & environment.keys())}
    for name, value in named.items():
        if found := _around(value):
            raise EntrypointError(f"{name} has {found} its value: write it without")
    for name in sorted(_SECRET & environment.keys()):
        if environment[name].strip(_LINE_ENDS) != environment[name]:
            raise EntrypointError(f"{name} has a line end around its value: write it without")
    numbers = {name: environment.get(name, "") for name in _NUMBERS}
    numbers["--workers"] = given.get("--workers") or environment.get("MLFLOW_WORKERS", "")
    for name, text in numbers.items():
        if text and not text.removeprefix("-").isdecimal():
            raise EntrypointError(f"{name} is '{text}': it takes a whole number, such as 5")


def _is_free(option: str) -> bool:
    return str(options.VALUED[option] or option.replace("-", "_").upper()).endswith(_FREE)


def _around(value: str) -> str | None:
    if value.strip(_LINE_ENDS) != value:
        return "a line end (of Windows, or of a file) around"
    if value.strip() != value:
        return "a blank around"
    if value[:1] and value[0] in _QUOTES:
        return "quotes around" if value[-1:] == value[0] and len(value) > 1 else "a quote before"
    return None
