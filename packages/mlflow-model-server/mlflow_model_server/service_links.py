"""Kubernetes' service links, which stand where the server's own variables are looked for.

A service called `mlflow-models` puts MLFLOW_MODELS_PORT=tcp://10.0.0.1:8080 into every container of
its namespace, as Docker's links did: an address of the service, not a port to listen on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_PREFIX = "MLFLOW_"
"""Prefix of what the server and MLflow read; a model may look for other services by others."""
_NAME = re.compile(r"_PORT(_\d+_(TCP|UDP|SCTP))?$")
_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S+:\d+$")


def drop(environment: MutableMapping[str, str]) -> None:
    """Remove links, so that the variables count as not set."""
    found = [
        name
        for name, value in environment.items()
        if name.startswith(_PREFIX) and _NAME.search(name) and _ADDRESS.match(value)
    ]
    for name in found:
        del environment[name]
