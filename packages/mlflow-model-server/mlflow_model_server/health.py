"""The image's health check: whether the server says that a model is loaded."""

from __future__ import annotations

import os
import sys

from mlflow_entrypoint.health import Address, ask

from mlflow_model_server import service_links


def main() -> int:
    """Print one line, and give back 0 for a healthy server and 1 for anything else."""
    service_links.drop(os.environ)
    port = os.environ.get("MLFLOW_MODELS_PORT") or "8080"
    try:
        status = ask(Address("127.0.0.1", int(port), "/ping", encrypted=False))
    except (OSError, ValueError) as error:
        status = str(error)
    good = status == "200"
    print(f"{'healthy' if good else 'unhealthy'}: port {port}, /ping: {status}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
