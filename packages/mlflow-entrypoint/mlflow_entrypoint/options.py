"""The options of `mlflow server`, as far as the entry point has to understand them."""

from __future__ import annotations

from typing import NamedTuple

SHORT = {"-h": "--host", "-p": "--port", "-w": "--workers"}

VALUED: dict[str, str | None] = {
    "--backend-store-uri": "MLFLOW_BACKEND_STORE_URI",
    "--read-replica-backend-store-uri": "MLFLOW_READ_REPLICA_BACKEND_STORE_URI",
    "--registry-store-uri": "MLFLOW_REGISTRY_STORE_URI",
    "--default-artifact-root": "MLFLOW_DEFAULT_ARTIFACT_ROOT",
    "--artifacts-destination": "MLFLOW_ARTIFACTS_DESTINATION",
    "--host": "MLFLOW_HOST",
    "--port": "MLFLOW_PORT",
    "--workers": "MLFLOW_WORKERS",
    "--static-prefix": "MLFLOW_STATIC_PREFIX",
    "--allowed-hosts": "MLFLOW_SERVER_ALLOWED_HOSTS",
    "--cors-allowed-origins": "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS",
    "--x-frame-options": "MLFLOW_SERVER_X_FRAME_OPTIONS",
    "--gunicorn-opts": "MLFLOW_GUNICORN_OPTS",
    "--waitress-opts": None,
    "--uvicorn-opts": "MLFLOW_UVICORN_OPTS",
    "--expose-prometheus": "MLFLOW_EXPOSE_PROMETHEUS",
    "--app-name": None,
    "--trace-archival-config": "MLFLOW_TRACE_ARCHIVAL_CONFIG",
    "--secrets-cache-ttl": None,
    "--secrets-cache-max-size": None,
    "--workspace-store-uri": "MLFLOW_WORKSPACE_STORE_URI",
}
"""Options with a value, and MLflow's variable for each, if it has one."""

FLAGS = frozenset(
    {
        "--serve-artifacts",
        "--no-serve-artifacts",
        "--artifacts-only",
        "--disable-security-middleware",
        "--dev",
        "--enable-workspaces",
        "--disable-workspaces",
        "--help",
    }
)


class Given(NamedTuple):
    """Options that a command line gives."""

    values: dict[str, str]
    """Values by the long name of the option; the last one counts."""
    flags: frozenset[str]
    blanks: frozenset[str]
    """Options that stand there without a value, since the variable in its place was empty."""
    arguments: list[str]
    """The command line without the blanks."""


def read(arguments: list[str]) -> Given:
    """Read the options of `mlflow server`.

    An option whose value vanished is followed by an empty argument, by nothing, or by the next
    option. Only options that have a variable can be blank, and only the exact name of an option of
    the server counts as the next one: `--uvicorn-opts --reload` has a value.

    Args:
        arguments: what follows `server`, with variables expanded.
    """
    values: dict[str, str] = {}
    flags: set[str] = set()
    blanks: set[str] = set()
    kept: list[str] = []
    rest = iter(range(len(arguments)))
    for index in rest:
        word = arguments[index]
        name, attached = _split(word)
        if name in FLAGS:
            flags.add(name)
            kept.append(word)
            continue
        if name not in VALUED:
            kept.append(word)
            continue
        value = attached
        used = [word]
        if attached is None:
            following = arguments[index + 1] if index + 1 < len(arguments) else None
            if following is not None and not (VALUED[name] and _is_option(following)):
                value = following
                used.append(following)
                next(rest)
        if not value and VALUED[name]:
            blanks.add(name)
            continue
        kept += used
        if value is not None:
            values[name] = value
    return Given(values, frozenset(flags), frozenset(blanks.difference(values)), kept)


def without(arguments: list[str], option: str) -> list[str]:
    """`arguments`, as `read` gives them, without an option and its value."""
    kept: list[str] = []
    rest = iter(arguments)
    for word in rest:
        name, attached = _split(word)
        if name == option:
            if attached is None:
                next(rest, None)
            continue
        kept.append(word)
        if name in VALUED and attached is None:
            kept.extend(value for value in [next(rest, None)] if value is not None)
    return kept


def _split(word: str) -> tuple[str, str | None]:
    """The long name of the option in `word`, and the value attached to it."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    if word[:2] in SHORT:
        return SHORT[word[:2]], word[2:] or None
    return word, None


def _is_option(word: str) -> bool:
    name = word.partition("=")[0]
    return word in SHORT or name in VALUED or name in FLAGS
