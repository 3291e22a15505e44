"""Make what a user says about the server into what MLflow understands.

An option on the command line wins. Everything else ends up in MLflow's own variables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mlflow_entrypoint import options, settings, values
from mlflow_entrypoint.errors import EntrypointError, say

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from mlflow_entrypoint.options import Given

OTHER_NAMES = {
    "MLFLOW_HOST": "MLFLOW_SERVER_HOST",
    "MLFLOW_PORT": "MLFLOW_SERVER_PORT",
    "MLFLOW_BACKEND_STORE_URI": "BACKEND_STORE_URI",
}
"""The image's names for variables of MLflow."""
ARTIFACT_ROOT = "ARTIFACT_ROOT"
_ARTIFACT_OPTIONS = ("--default-artifact-root", "--artifacts-destination")


class Server(NamedTuple):
    """A server that is to be started."""

    arguments: list[str]
    """Arguments behind `server`."""
    backend: str | None
    """The tracking store's URL; None for a server that only passes artifacts on."""
    read_replica: str | None
    registry: str | None
    authenticates: bool
    """True if it has MLflow's own users and passwords, which have a database too."""
    backend_variable: str | None
    """The variable that the tracking store's URL came from, for messages."""
    workspaces: str | None = None
    """The store of workspaces, where it is one of its own."""


def settle(arguments: list[str], environment: MutableMapping[str, str]) -> Server:
    """Settle what the server is started with.

    Args:
        arguments: what follows `server`, with variables expanded.
        environment: where MLflow's variables are set.

    Raises:
        EntrypointError: two variables contradict each other, or an option has no value.
    """
    given = options.read(arguments)
    values.check(environment, given.values)
    backend_variable = _source("MLFLOW_BACKEND_STORE_URI", environment)
    adopt_names(environment, given)
    _place_artifacts(environment, given)
    _require_values(environment, given)
    _complete(environment, settings.SERVER)
    _check_limits(environment)
    arguments = _place_uvicorn_options(environment, given)
    backend = None
    if not _is_on("--artifacts-only", given, environment):
        _complete(environment, settings.DATABASE)
        backend = given.values.get("--backend-store-uri") or environment["MLFLOW_BACKEND_STORE_URI"]
        sized = environment.get(settings.POOL_CLASS, "") in settings.SIZED_POOLS
        if sized and not backend.startswith("sqlite"):
            _complete(environment, settings.POOL)
    return Server(
        arguments=arguments,
        backend=backend,
        read_replica=_value_of("--read-replica-backend-store-uri", given, environment),
        registry=_value_of("--registry-store-uri", given, environment),
        authenticates=given.values.get("--app-name") == "basic-auth",
        backend_variable=None if "--backend-store-uri" in given.values else backend_variable,
        workspaces=(
            _value_of("--workspace-store-uri", given, environment)
            if _is_on("--enable-workspaces", given, environment)
            else None
        ),
    )


def adopt_names(environment: MutableMapping[str, str], given: Given) -> None:
    """Set MLflow's variables from the image's names for them.

    Raises:
        EntrypointError: both are set, and differ.
    """
    for variable, other in OTHER_NAMES.items():
        _adopt(variable, other, environment, given)


def _complete(environment: MutableMapping[str, str], defaults: Mapping[str, str]) -> None:
    for name, value in defaults.items():
        if not environment.get(name):
            environment[name] = value


def _check_limits(environment: MutableMapping[str, str]) -> None:
    """See that what the workers will read is legal: here a fault is one line."""
    settings.seconds(environment, settings.DATABASE_TIMEOUT)
    longest = settings.number(environment, settings.MAX_REQUEST_BYTES)
    gateway = settings.number(environment, settings.GATEWAY_REQUEST_BYTES)
    name = settings.MAX_REQUEST_BYTES[0]
    if gateway > longest and not environment.get(name):
        environment[name] = str(gateway)


def _place_uvicorn_options(environment: MutableMapping[str, str], given: Given) -> list[str]:
    """Put the image's options for uvicorn before those of the user, which win.

    Returns:
        the server's arguments.
    """
    others = {"--gunicorn-opts", "--waitress-opts"}.intersection(given.values)
    if others or environment.get("MLFLOW_GUNICORN_OPTS") or "--dev" in given.flags:
        return given.arguments
    option = "--uvicorn-opts"
    asked = _value_of(option, given, environment) or ""
    environment[settings.UVICORN_OPTIONS] = (
        f"{settings.uvicorn_options(environment)} {asked}".strip()
    )
    return options.without(given.arguments, option)


def _source(variable: str, environment: MutableMapping[str, str]) -> str | None:
    names = (variable, OTHER_NAMES[variable])
    return next((name for name in names if environment.get(name)), None)


def _adopt(variable: str, other: str, environment: MutableMapping[str, str], given: Given) -> None:
    """Set MLflow's `variable` from the `other` name, unless the command line decides anyway."""
    current, value = environment.get(variable), environment.get(other)
    if not value:
        return
    decided = any(options.VALUED[option] == variable for option in given.values)
    if current and current != value and not decided:
        raise EntrypointError(f"{variable} and {other} are both set and differ: keep one of them")
    environment[variable] = value


def _place_artifacts(environment: MutableMapping[str, str], given: Given) -> None:
    """Decide what ARTIFACT_ROOT means.

    In the place of a blank option it is that option's value. Without an option it is where the
    server keeps the artifacts that clients send through it; a server that passes none on tells its
    clients to go there themselves.
    """
    root = environment.get(ARTIFACT_ROOT)
    for option in given.blanks.intersection(_ARTIFACT_OPTIONS):
        if root:
            _set_artifacts(str(options.VALUED[option]), root, environment)
    if any(_value_of(option, given, environment) for option in _ARTIFACT_OPTIONS[:1]):
        _warn_of_local_root(given, environment)
        return
    passes_on = _is_on("--serve-artifacts", given, environment, default=True)
    option = "--artifacts-destination" if passes_on else "--default-artifact-root"
    variable = str(options.VALUED[option])
    if option in given.values:
        return
    if root:
        _set_artifacts(variable, root, environment)
    elif not environment.get(variable) and option not in given.blanks:
        environment[variable] = settings.ARTIFACTS


def _set_artifacts(variable: str, root: str, environment: MutableMapping[str, str]) -> None:
    if environment.get(variable) not in (None, "", root):
        raise EntrypointError(
            f"{variable} and {ARTIFACT_ROOT} are both set and differ: keep one of them"
        )
    environment[variable] = root


def _warn_of_local_root(given: Given, environment: MutableMapping[str, str]) -> None:
    root = _value_of("--default-artifact-root", given, environment) or ""
    if "://" not in root and not root.startswith(("mlflow-artifacts:", "file:", "dbfs:")):
        say(
            f"note: --default-artifact-root {root} is a path that clients write to themselves, on"
            " their own machines; for artifacts kept here set ARTIFACT_ROOT in its place"
        )


def _require_values(environment: MutableMapping[str, str], given: Given) -> None:
    """See that a variable takes the place of every blank option."""
    for option in sorted(given.blanks):
        variable = str(options.VALUED[option])
        if environment.get(variable):
            continue
        other = ARTIFACT_ROOT if option in _ARTIFACT_OPTIONS else OTHER_NAMES.get(variable)
        names = f"{other} or {variable}" if other else variable
        raise EntrypointError(
            f"{option} has no value and {names} is not set: write a value, or set the variable"
        )


def _value_of(option: str, given: Given, environment: MutableMapping[str, str]) -> str | None:
    return given.values.get(option) or environment.get(str(options.VALUED[option])) or None


def _is_on(
    flag: str, given: Given, environment: MutableMapping[str, str], *, default: bool = False
) -> bool:
    """Tell whether a flag of the server is on, by option or by MLflow's variable for it."""
    if flag in given.flags:
        return True
    if flag.replace("--", "--no-", 1) in given.flags:
        return False
    variable = f"MLFLOW_{flag.removeprefix('--').replace('-', '_').upper()}"
    return settings.switch(environment, variable, default=default)
