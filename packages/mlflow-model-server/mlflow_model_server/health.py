"""The image's health check: whether the server says that a model is loaded."""

from __future__ import annotations

import os
import sys

from mlflow_entrypoint.errors import EntrypointError
from mlflow_entrypoint.health import Address, ask

from mlflow_model_server import addresses, service_links


def main() -> int:
    """Print one line, and give back 0 for a healthy server and 1 for anything else."""
    service_links.drop(os.environ)
    port = os.environ.get("MLFLOW_MODELS_PORT") or "8080"
    try:
        hosts = addresses.asked(addresses.read(os.environ.get(addresses.HOST, "")))
        status = _status(hosts, int(port))
    except (EntrypointError, ValueError) as error:
        status = str(error)
    good = status == "200"
    print(f"{'healthy' if good else 'unhealthy'}: port {port}, /ping: {status}")
    return 0 if good else 1


def _status(hosts: tuple[str, ...], port: int) -> str:
    """What the first address says that somebody listens at; else, why none does."""
    faults = []
    for host in hosts:
        try:
            return ask(Address(host, port, "/ping", encrypted=False))
        except OSError as error:
            faults.append(str(error))
    return faults[0]


if __name__ == "__main__":
    sys.exit(main())
