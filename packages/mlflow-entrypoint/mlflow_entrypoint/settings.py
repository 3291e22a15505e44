"""Settings that the image decides where nobody else does; every value can be set otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_entrypoint.errors import EntrypointError

if TYPE_CHECKING:
    from collections.abc import Mapping

ALWAYS = {"MLFLOW_DISABLE_TELEMETRY": "true"}
"""Variables for every command."""

SERVER = {
    # Loopback inside a container reaches nobody; which clients are served is --allowed-hosts' part.
    "MLFLOW_HOST": "0.0.0.0",  # noqa: S104
    "MLFLOW_PORT": "5000",
    # Measured (docs/benchmarks.md): one worker keeps one core busy, four take too much memory.
    # Where uvloop is installed, several don't cost the 40 ms an answer that asyncio makes of it.
    # Background jobs triple the time to the first answer.
    "MLFLOW_WORKERS": "2",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
"""Variables for the server."""

DATABASE = {"MLFLOW_BACKEND_STORE_URI": "sqlite:///mlflow.db"}
"""Variables for a server that tracks; one of artifacts alone must not have a database."""

POOL = {
    # Measured: five connections and ten more to throw away, as otherwise, cost a third of the CPU
    # time under load. Zero would count as unset.
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "10",
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "1",
}
"""Variables for the server, where its database is not a file."""
POOL_CLASS = "MLFLOW_SQLALCHEMYSTORE_POOLCLASS"
SIZED_POOLS = ("", "QueuePool")
"""Classes of pools that take a size; SQLAlchemy refuses one for any other."""

ARTIFACTS = "./mlruns"
"""Folder for artifacts of a server that was given no place for them."""

DATABASE_WAIT = ("MLFLOW_DATABASE_WAIT", 60.0)
"""The longest wait for a database that is starting, in seconds."""
SCHEMA_LOCK_WAIT = ("MLFLOW_SCHEMA_LOCK_WAIT", 600.0)
"""The longest wait for another server that initialises or upgrades the database, in seconds."""
DATABASE_TIMEOUT = ("MLFLOW_DATABASE_TIMEOUT", 30.0)
"""Seconds that a request waits for an answer of the database; 0 for ever."""
MAX_REQUEST_BYTES = ("MLFLOW_MAX_REQUEST_BYTES", 64 * 1024 * 1024)
"""The largest body of a request that is no artifact; 0 for any."""
GATEWAY_REQUEST_BYTES = ("MLFLOW_GATEWAY_MAX_DECOMPRESSED_REQUEST_SIZE", 0)
"""MLflow's own limit of a request to its gateway: it raises the one above."""
STOP_WAIT = ("MLFLOW_STOP_WAIT", 8.0)
"""Seconds after a stop signal until the server is killed: before Docker's own 10."""
UVICORN_OPTIONS = "MLFLOW_UVICORN_OPTS"
"""MLflow's variable for options of uvicorn. The image's come before the user's, which so win."""
UVICORN = {
    # Limits of what clients may do (`front`).
    "--http": "mlflow_entrypoint.front:Protocol",
    # MLflow has no WebSockets: an offer of one is a request like any other.
    "--ws": "none",
    # Longer than the minute for which most proxies keep a connection: one that the server closes
    # first costs them a request.
    "--timeout-keep-alive": "75",
}
"""Options of uvicorn, but for those that its own variables set (UVICORN_WS, ...)."""
PRELOAD = "MLFLOW_PRELOAD"
"""True if MLflow is loaded once for all workers; `true` where it isn't set."""
SCHEMA_UPGRADE = "MLFLOW_SCHEMA_UPGRADE"
"""True if a database with an older schema is upgraded at the start; `false` where it isn't set."""

_WORDS = {
    **dict.fromkeys(("true", "t", "1", "yes", "y", "on"), True),
    **dict.fromkeys(("false", "f", "0", "no", "n", "off", ""), False),
}
"""The words that MLflow's command line takes."""


def uvicorn_options(environment: Mapping[str, str]) -> str:
    """The image's options of uvicorn, without those that a variable of uvicorn's decides."""
    return " ".join(
        f"{option} {value}"
        for option, value in UVICORN.items()
        if not environment.get(f"UVICORN_{option.removeprefix('--').replace('-', '_').upper()}")
    )


def seconds(environment: Mapping[str, str], setting: tuple[str, float]) -> float:
    """The number that a variable holds, or its default.

    Raises:
        EntrypointError: it is no number of seconds.
    """
    name, default = setting
    text = environment.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise EntrypointError(f"{name} is '{text}': it takes a number of seconds, such as 60")
    return value


def number(environment: Mapping[str, str], setting: tuple[str, int]) -> int:
    """The whole number that a variable holds, or its default.

    Raises:
        EntrypointError: it is none, or less than 0.
    """
    name, default = setting
    text = environment.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()):
        raise EntrypointError(f"{name} is '{text}': it takes a whole number, such as {default}")
    return int(text)


def switch(environment: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """Tell whether a variable says yes.

    Raises:
        EntrypointError: it says neither yes nor no.
    """
    text = environment.get(name, "")
    if not text:
        return default
    try:
        return _WORDS[text.strip().lower()]
    except KeyError:
        raise EntrypointError(f"{name} is '{text}': it takes true or false") from None
