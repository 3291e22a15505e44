"""Description of a model, read from its folder."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from seatrial.errors import UserError, without_password
from seatrial.model import documents, requirements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MLMODEL = "MLmodel"
"""MLflow's name for the file that makes a folder a model."""
REGISTERED = "registered_model_meta"
"""MLflow's name for the file that says where in the registry a model was taken from."""
_FLAVOR = "python_function"
_IDENTITY = re.compile(r"[A-Za-z0-9_-]{0,128}")
_LONGEST = 256
_PATHS = ("code", "data", "env", "conda", "virtualenv", "path")
"""Keys of a flavor that name files of the model."""
_SETTINGS = ("config", "model_config")
"""Keys of a flavor whose values are the model's own settings, whatever they are called."""


@dataclass(frozen=True)
class Description:
    """A model's metadata."""

    python: str
    """Version of the interpreter that logged it, such as `3.13.5`; empty where it is not said."""
    mlflow: str
    """Version that logged it; empty where it is not said."""
    run: str
    """Id of the run that logged it; empty for none."""
    identity: str
    """Id of the logged model (`m-...`); empty for none."""
    name: str
    """Name in the registry; empty for a model from elsewhere."""
    version: str
    """Version in the registry."""
    signature: str
    """`sha256:` and the digest of its signature as JSON, keys sorted; empty for none."""


def read(folder: Path, uri: str) -> Description:
    """Read a model's folder, which came from `uri`; nothing of it is executed.

    Raises:
        UserError: it holds no model that can be served, or one that is refused.
    """
    require_model(folder, uri)
    described = documents.read(folder / MLMODEL, without_password(uri))
    flavors = described.get("flavors") if isinstance(described, dict) else None
    if not isinstance(flavors, dict):
        raise UserError(
            f"the {MLMODEL} of {without_password(uri)} cannot be read: it lists no flavors; log the"
            " model anew"
        )
    flavor = flavors.get(_FLAVOR)
    if not isinstance(flavor, dict):
        raise UserError(
            f"the model has no {_FLAVOR} flavour: log it by a flavour that gives it one, such "
            "as mlflow.pyfunc or mlflow.sklearn"
        )
    for key, path in _named_paths(flavors):
        if path.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", path):
            raise UserError(
                f"the {MLMODEL} of the model is refused: {key} names {path[:_LONGEST]!r}, which is"
                " outside the model's folder; log the model anew"
            )
    if not (folder / requirements.FILE).is_file():
        raise UserError(
            f"the model has no {requirements.FILE}, so nothing says what its image must hold: log "
            "it with pip_requirements"
        )
    registered = _registered(folder)
    return Description(
        python=_version(flavor, "python_version"),
        mlflow=_version(described, "mlflow_version"),
        run=_identity(described, "run_id"),
        identity=_identity(described, "model_id"),
        name=registered.get("model_name", ""),
        version=registered.get("model_version", ""),
        signature=_digest(described.get("signature")),
    )


def require_model(folder: Path, uri: str) -> None:
    """See that a folder, which came from `uri`, is a model's.

    Raises:
        UserError: it is not.
    """
    if not (folder / MLMODEL).is_file():
        raise UserError(
            f"{uri} holds no model: there is no {MLMODEL} in it; --model-uri takes "
            "what log_model gave, such as models:/NAME@alias, runs:/RUN/model or a folder"
        )


def _named_paths(value: Any, key: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401
    """Each path that a flavor names, with its key; the nesting has a limit already."""
    if isinstance(value, dict):
        for name, inner in value.items():
            # `env: {conda: conda.yaml}`, `artifacts: {weights: {path: artifacts/weights}}`
            if name not in _SETTINGS:
                yield from _named_paths(inner, str(name))
    elif isinstance(value, str) and key in _PATHS:
        yield key, value


def _version(described: Mapping[str, Any], key: str) -> str:
    """A version that the model states: it becomes part of requirements and labels."""
    stated = str(described.get(key) or "")
    try:
        # `3.13.0+` is CPython's word for a build from its repository.
        return stated and str(Version(stated[:_LONGEST].removesuffix("+")))
    except (InvalidVersion, ValueError) as error:
        raise UserError(
            f"the {MLMODEL} of the model is refused: {key} is {stated[:_LONGEST]!r}, which is no"
            " version; log the model anew"
        ) from error


def _identity(described: Mapping[str, Any], key: str) -> str:
    stated = str(described.get(key) or "")
    if not _IDENTITY.fullmatch(stated):
        raise UserError(
            f"the {MLMODEL} of the model is refused: {key} is {stated[:_LONGEST]!r}, which MLflow"
            " gives to none; log the model anew"
        )
    return stated


def _registered(folder: Path) -> dict[str, str]:
    """Read the file beside a model that was taken from the registry."""
    path = folder / REGISTERED
    if not path.is_file():
        return {}
    stated = documents.read(path)
    if not isinstance(stated, dict):
        return {}
    # MLflow writes null, or the word, where it knows of none.
    found = {str(name): str(value) for name, value in stated.items() if value not in (None, "None")}
    for value in found.values():
        if not value.isprintable() or len(value) > _LONGEST:
            raise UserError(
                f"the {REGISTERED} of the model is refused: {value[:_LONGEST]!r} cannot be a label;"
                " remove the file"
            )
    return found


def _digest(signature: object) -> str:
    if not signature:
        return ""
    try:
        text = json.dumps(signature, sort_keys=True, default=str)
    except TypeError as error:  # keys of several types
        raise UserError(
            f"the {MLMODEL} of the model is refused: its signature is none; log the model anew"
        ) from error
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
