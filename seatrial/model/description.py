"""What a model's folder says of the model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.pyfunc import FLAVOR_NAME
from mlflow.store.artifact.models_artifact_repo import REGISTERED_MODEL_META_FILE_NAME

from seatrial.errors import UserError, reason

if TYPE_CHECKING:
    from pathlib import Path

REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True)
class Description:
    """One model."""

    python: str
    """Version of the interpreter that logged it, such as `3.13.5`; empty where it is not said."""
    mlflow: str
    """Version that logged it; empty where it is not said."""
    run: str
    """Of the run that logged it; empty for none."""
    identity: str
    """Of the logged model (`m-...`); empty where there is none."""
    name: str
    """In the registry; empty where the model was not taken from there."""
    version: str
    """In the registry."""
    signature: str
    """`sha256:` and the digest of its signature as JSON, keys sorted; empty for none."""


def read(folder: Path, uri: str) -> Description:
    """Read a model's folder, which came from `uri`.

    Raises:
        UserError: it holds no model that can be served.
    """
    require_model(folder, uri)
    try:
        model = Model.load(str(folder / MLMODEL_FILE_NAME))
        configuration = model.flavors[FLAVOR_NAME]
    except KeyError as error:
        raise UserError(
            f"the model has no {FLAVOR_NAME} flavour: log it by a flavour that gives it one, such "
            "as mlflow.pyfunc or mlflow.sklearn"
        ) from error
    except (MlflowException, yaml.YAMLError, UnicodeError, TypeError, AttributeError) as error:
        raise UserError(
            f"the {MLMODEL_FILE_NAME} of {uri} cannot be read: {reason(error)}"
        ) from error
    if not (folder / REQUIREMENTS).is_file():
        raise UserError(
            f"the model has no {REQUIREMENTS}, so nothing says what its image must hold: log it "
            "with pip_requirements"
        )
    _require_text(folder / REQUIREMENTS, uri)
    registered = _registered(folder)
    return Description(
        python=str(configuration.get("python_version") or ""),
        mlflow=str(model.mlflow_version or ""),
        run=model.run_id or "",
        identity=str(model.model_id or ""),
        name=registered.get("model_name", ""),
        version=registered.get("model_version", ""),
        signature=_digest(model),
    )


def require_model(folder: Path, uri: str) -> None:
    """See that a folder, which came from `uri`, is a model's.

    Raises:
        UserError: it is not.
    """
    if not (folder / MLMODEL_FILE_NAME).is_file():
        raise UserError(
            f"{uri} holds no model: there is no {MLMODEL_FILE_NAME} in it; --model-uri takes "
            "what log_model gave, such as models:/NAME@alias, runs:/RUN/model or a folder"
        )


def _require_text(path: Path, uri: str) -> None:
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"the {path.name} of {uri} cannot be read: {reason(error)}; write it in UTF-8"
        ) from error


def _registered(folder: Path) -> dict[str, str]:
    """What MLflow writes beside a model that it takes from the registry."""
    path = folder / REGISTERED_MODEL_META_FILE_NAME
    if not path.is_file():
        return {}
    read = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(read, dict):
        return {}
    # MLflow writes null, or the word, where it knows of none.
    return {name: str(value) for name, value in read.items() if value not in (None, "None")}


def _digest(model: Model) -> str:
    if model.signature is None:
        return ""
    text = json.dumps(model.signature.to_dict(), sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
