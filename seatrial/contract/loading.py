"""Read a contract file; every fault in it is one line that names the file and the key."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from seatrial.contract.schema import Contract
from seatrial.errors import UserError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

BUILT_IN = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}
"""The contracts that come with Seatrial, by name."""
DEFAULT_CONTRACT = BUILT_IN["default"]
"""For an image that comes without a contract: an MLflow server that speaks PostgreSQL and S3."""
MODEL_CONTRACT = BUILT_IN["model"]
"""For an image with a model that comes without a contract."""
OWN_CONTRACT = BUILT_IN["own"]
"""For what `invoke model` makes."""
STOCK_CONTRACT = BUILT_IN["stock"]
"""For what `mlflow models build-docker` makes."""


def load(path: Path) -> Contract:
    """Read and check the contract at `path`.

    Raises:
        UserError: the file is missing, is not TOML, or breaks the schema.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such contract file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read as a contract: {error}") from None
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    try:
        return Contract.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: " + "; ".join(map(_describe, error.errors()))) from None


def _describe(fault: ErrorDetails) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if fault["type"] == "missing":
        return f"{key}: required, but not given"
    message = fault["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{key}: {message}" if key else message
