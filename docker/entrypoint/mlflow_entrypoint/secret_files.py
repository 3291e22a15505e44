"""Secrets by file: `NAME_FILE` names a file that holds the value of NAME."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_entrypoint.errors import EntrypointError
from mlflow_entrypoint.secrecy import passwords_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

SECRETS = (
    "BACKEND_STORE_URI",
    "MLFLOW_BACKEND_STORE_URI",
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI",
    "MLFLOW_REGISTRY_STORE_URI",
    "MLFLOW_WORKSPACE_STORE_URI",
    "MLFLOW_GATEWAY_RATE_LIMITS_STORAGE_URI",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "MLFLOW_AUTH_ADMIN_USERNAME",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_CRYPTO_KEK_PASSPHRASE",
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_UC_OSS_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_CLIENT_SECRET",
    "DATABRICKS_TOKEN",
)
"""Only these: other variables that end in _FILE, such as SSL_CERT_FILE, mean something else."""
_PUBLIC = ("_URI", "_USERNAME", "_ACCESS_KEY_ID")
"""How variables end whose value as a whole is no secret."""


def load(environment: MutableMapping[str, str]) -> None:
    """Put the contents of the named files into `environment`, without their last line break.

    Raises:
        EntrypointError: a file can't be read, or the variable itself is set as well.
    """
    for name in SECRETS:
        variable = f"{name}_FILE"
        path = environment.get(variable)
        if not path:
            continue
        if environment.get(name):
            raise EntrypointError(f"{name} and {variable} are both set: keep one of them")
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise EntrypointError(
                f"{variable} names {path}, which can't be read: {error.strerror}"
            ) from None
        except UnicodeDecodeError:
            raise EntrypointError(f"{variable} names {path}, which is not text") from None
        environment[name] = text.removesuffix("\n").removesuffix("\r")
        del environment[variable]


def passwords(environment: Mapping[str, str], arguments: Iterable[str]) -> list[str]:
    """What must not be shown: secrets of the environment, and passwords in URLs."""
    values = {name: environment.get(name, "") for name in SECRETS}
    whole = [value for name, value in values.items() if value and not name.endswith(_PUBLIC)]
    return whole + [
        password for text in (*values.values(), *arguments) for password in passwords_of(text)
    ]
