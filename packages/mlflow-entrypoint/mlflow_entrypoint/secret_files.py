"""Secrets by file: `NAME_FILE` names a file that holds the value of NAME."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from mlflow_entrypoint.errors import EntrypointError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

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
"""Secrets that a file may hold: other variables in _FILE, such as SSL_CERT_FILE, name no secret."""
LIMIT = 64 * 1024
"""Bytes of a secret. Linux takes 128 KiB for one variable of a new program."""
_TYPES = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


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
        value = read(path, variable, LIMIT).removesuffix("\n").removesuffix("\r")
        if not value:
            # An empty value counts as none: the server would take its default without a word.
            raise EntrypointError(f"{variable} names {path}, which is empty")
        environment[name] = value
        del environment[variable]


def read(path: str, variable: str, limit: int) -> str:
    """Read a small text file that a variable or an option names.

    Args:
        path: of a regular file: others may wait for a writer, or never end.
        variable: which named it, for messages.
        limit: the most bytes that it may have.

    Raises:
        EntrypointError: there is no such file, or it is no small text.
    """
    try:
        content = _read(path, limit + 1)
    except OSError as error:
        raise EntrypointError(
            f"{variable} names {path}, which can't be read: {error.strerror}"
        ) from None
    if len(content) > limit:
        raise EntrypointError(f"{variable} names {path}, which has more than {limit} bytes")
    if b"\0" in content:
        raise EntrypointError(f"{variable} names {path}, which has a NUL byte in it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise EntrypointError(f"{variable} names {path}, which is not text in UTF-8") from None


def _read(path: str, length: int) -> bytes:
    # Without O_NONBLOCK a FIFO is opened when somebody writes to it.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        file_type = stat.S_IFMT(os.fstat(file).st_mode)
        if file_type != stat.S_IFREG:
            found = _TYPES.get(file_type, "no file")
            raise OSError(errno.EINVAL, f"it is {found}, not a regular file")
        content = b""
        while len(content) < length and (more := os.read(file, length - len(content))):
            content += more
        return content
    finally:
        os.close(file)
