"""Read a contract file; every fault in it is one line that names the file and the key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from seatrial import documents
from seatrial.contract import inheritance
from seatrial.contract.declaring import Table
from seatrial.contract.schema import Contract
from seatrial.errors import UserError, printable
from seatrial.project import PACKAGE

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

BUILT_IN = {path.stem: path for path in sorted((PACKAGE / "contract").glob("*.toml"))}
"""The contracts that come with Seatrial, by name."""
DEFAULT_CONTRACT = BUILT_IN["default"]
"""Contract of an image that comes without one: an MLflow server that speaks PostgreSQL and S3."""
MODEL_CONTRACT = BUILT_IN["model"]
"""Contract of an image with a model that comes without one."""
SEATRIAL_MODEL_CONTRACT = BUILT_IN["seatrial-model"]
"""Contract of what `invoke model` makes."""
MLFLOW_MODEL_CONTRACT = BUILT_IN["mlflow-model"]
"""Contract of what `mlflow models build-docker` makes."""


MOST_EXTENDED = 8
"""Contracts that may extend one another in a row."""
_SHOWN = 5
"""Faults that are told of one file."""


def load(path: Path) -> Contract:
    """Read and check the contract at `path`, and those that it extends.

    Raises:
        UserError: a file is missing, is not TOML, or breaks the schema.
    """
    _, contract = _resolve(path, ())
    return contract


def _resolve(path: Path, heirs: tuple[Path, ...]) -> tuple[dict[str, Any], Contract]:
    """Read a contract.

    Args:
        path: its file.
        heirs: the files that extend it, the last of them directly.

    Returns:
        It as it would be if it extended no other, as TOML and as values.
    """
    if len(heirs) > MOST_EXTENDED:
        raise UserError(f"{path}: at most {MOST_EXTENDED} contracts may extend one another")
    content = documents.toml(path, "contract")
    if path.resolve() in heirs:
        raise UserError(f"{path}: a contract can't extend itself")
    try:
        extended = _Extension.model_validate(
            {key: content.pop(key) for key in _Extension.model_fields if key in content}
        )
    except ValidationError as error:
        raise _refusal(path, error, quote=not heirs) from None
    if extended.extends is not None:
        origin = _place(path, extended.extends)
        try:
            base, _ = _resolve(origin, (*heirs, path.resolve()))
        except UserError as error:
            raise UserError(f"{path} extends {error}") from None
        try:
            kept = inheritance.without(base, extended.withdraws)
        except UserError as error:
            raise UserError(
                f"{path} extends {origin}: withdraws: "
                + (str(error) if not heirs else "what is not promised there")
            ) from None
        content = inheritance.merged(inheritance.inherited(kept, origin, path), content)
    elif extended.withdraws:
        raise UserError(f"{path}: withdraws: goes with extends, which is not given")
    try:
        return content, Contract.model_validate(content)
    except ValidationError as error:
        raise _refusal(path, error, quote=not heirs) from None


class _Extension(Table):
    """The keys of a contract's file that say what it is the difference to."""

    extends: Annotated[str, Field(min_length=1)] | None = None
    """The path of another contract, relative to this file, or the name of a built-in one."""
    withdraws: list[str] = Field(default_factory=list)
    """Promises of that other contract that this one doesn't make."""


def _place(path: Path, extends: str) -> Path:
    if extends.endswith(".toml"):
        return path.parent / extends
    if extends not in BUILT_IN:
        raise UserError(
            f"{path}: extends: no built-in contract is called '{printable(extends)}': known are"
            f" {', '.join(BUILT_IN)}; the path of a file ends in .toml"
        )
    return BUILT_IN[extends]


def _refusal(path: Path, error: ValidationError, *, quote: bool) -> UserError:
    """Say what breaks the schema, on one line.

    Args:
        path: the file.
        error: its faults.
        quote: whether the file's own words may be repeated. What another contract has named may
            be no contract, and nobody's to read.
    """
    faults = list(dict.fromkeys(_describe(fault, quote=quote) for fault in error.errors()))
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return UserError(f"{path}: " + "; ".join(faults[:_SHOWN]) + more)


def _describe(fault: ErrorDetails, *, quote: bool) -> str:
    if quote:
        return documents.describe(fault)
    known = _known_part(fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{'.'.join(map(str, known)) or 'its top level'}: holds an unknown key"
    return documents.describe({**fault, "loc": known})


def _known_part(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The beginning of a place in a document, as far as its keys are the schema's own."""
    known, fields = 0, {**Contract.model_fields, **_Extension.model_fields}
    for part in location:
        field = fields.get(str(part))
        if field is None:
            break
        known += 1
        table = field.annotation
        fields = {}
        if isinstance(table, type) and issubclass(table, Table):
            fields = table.model_fields
    return location[:known]
