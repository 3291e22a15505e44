"""`${NAME}` in arguments, which no shell expands here, and variables that Kubernetes makes up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_entrypoint.errors import EntrypointError

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

_REFERENCE = re.compile(r"\$(?P<escape>\$)?\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^{}]*))?\}")

_SERVICE_LINK = re.compile(r"(?:tcp|udp|sctp)://")
_READ = ("MLFLOW_", "UVICORN_")
"""Beginnings of variables that MLflow, the entry point or uvicorn read."""


def drop_service_links(environment: MutableMapping[str, str]) -> None:
    """Forget what Kubernetes says about services that are called `mlflow` or `mlflow-server`.

    It puts MLFLOW_PORT=tcp://10.0.0.1:5000 into every container of the namespace: not a port.
    """
    for name, value in list(environment.items()):
        if name.startswith(_READ) and name.endswith("_PORT") and _SERVICE_LINK.match(value):
            del environment[name]


def expand(argument: str, environment: Mapping[str, str]) -> str:
    """Replace `${NAME}` and `${NAME:-default}`; `$${NAME}` stands for `${NAME}` itself.

    Values are taken as they are: a `${NAME}` inside one is not expanded again.

    Raises:
        EntrypointError: a variable is not set and has no default.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if match["escape"]:
            return match[0][1:]
        if default is not None:
            return environment.get(name) or default
        if name not in environment:
            raise EntrypointError(
                f"'${{{name}}}' stands in the command, but the variable {name} is not set"
            )
        return environment[name]

    return _REFERENCE.sub(value, argument)
