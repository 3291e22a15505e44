"""MLflow's own file of settings for its users (`--app-name basic-auth`)."""

from __future__ import annotations

import configparser
from typing import TYPE_CHECKING

from mlflow_entrypoint import secret_files
from mlflow_entrypoint.errors import EntrypointError
from mlflow_entrypoint.schema import mlflow_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLE = "MLFLOW_AUTH_CONFIG_PATH"
_SECTION = "mlflow"
_LIMIT = 1024 * 1024
"""Bytes of the file."""
_KEY = "MLFLOW_FLASK_SERVER_SECRET_KEY"
ADMIN_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"  # noqa: S105
_ADMIN_PASSWORD_OPTION = "admin_password"  # noqa: S105


def check(environment: Mapping[str, str]) -> None:
    """See that what every start with users needs is there.

    Raises:
        EntrypointError: the key is missing.
    """
    if not environment.get(_KEY):
        raise EntrypointError(
            f"--app-name basic-auth needs {_KEY}, a long random text that is the same for all"
            f" replicas: set it, or name a file with it in {_KEY}_FILE"
        )


def check_first_start(environment: Mapping[str, str]) -> None:
    """See that the first user can be made.

    Raises:
        EntrypointError: there is no password for it.
    """
    password = environment.get(ADMIN_PASSWORD, read(environment).get(_ADMIN_PASSWORD_OPTION))
    if not password:
        raise EntrypointError(
            f"the first start with --app-name basic-auth needs a password for its administrator,"
            f" of at least 12 characters: set {ADMIN_PASSWORD}, or name a file with it in"
            f" {ADMIN_PASSWORD}_FILE"
        )


def read(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings in that file.

    Raises:
        EntrypointError: the file that a variable names can't be read.
    """
    named = environment.get(_VARIABLE)
    path = named or str(mlflow_folder() / "server/auth/basic_auth.ini")
    parser = configparser.ConfigParser()
    try:
        parser.read_string(secret_files.read(path, _VARIABLE, _LIMIT))
        return dict(parser.items(_SECTION))
    except configparser.Error as error:
        # The parser's messages quote the file, passwords included.
        line = getattr(error, "lineno", None)
        where = f" at line {line}" if line else ""
        hint = ": write % as %%" if isinstance(error, configparser.InterpolationError) else ""
        raise EntrypointError(
            f"{_VARIABLE} names {path}, which MLflow can't read{where}"
            f" ({type(error).__name__}){hint}"
        ) from None
