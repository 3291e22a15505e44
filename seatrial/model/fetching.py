"""Bringing a model here, wherever it is kept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import requests
from botocore.exceptions import BotoCoreError, ClientError
from mlflow.exceptions import MlflowException

from seatrial.errors import UserError, reason

_SECONDS = 10
_REGISTERED = "models"
_OF_A_SERVER = (_REGISTERED, "runs", "mlflow-artifacts")
_READABLE, _SEARCHABLE = 0o644, 0o755


def fetch(uri: str, tracking_uri: str, target: Path) -> Path:
    """Copy a model to this machine, readable to everybody: nobody knows whom the image runs as.

    Args:
        uri: `models:/...`, `runs:/...`, another address that MLflow reads, or a folder.
        tracking_uri: of the tracking server; empty for what MLflow's own variables say.
        target: an empty folder.

    Returns:
        the model's folder, in `target`.

    Raises:
        UserError: it is not there, or cannot be reached.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        folder = _copied(Path(parts.path), uri, target / "model")
    else:
        folder = _downloaded(uri, parts.scheme, tracking_uri, target)
    for path in (folder, *folder.rglob("*")):
        path.chmod(_SEARCHABLE if path.is_dir() else _READABLE)
    return folder


def _copied(source: Path, uri: str, target: Path) -> Path:
    if not source.is_dir():
        raise UserError(f"there is no model at {uri}: it is not a folder of this machine")
    if not any(source.iterdir()):
        raise UserError(f"there is no model at {uri}: the folder is empty")
    shutil.copytree(source, target)
    return target


def _downloaded(uri: str, scheme: str, tracking_uri: str, target: Path) -> Path:
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    if tracking_uri:
        mlflow.set_tracking_uri(tracking_uri)
        # One that MLFLOW_REGISTRY_URI names is another server's.
        mlflow.set_registry_uri(tracking_uri)
    if scheme in _OF_A_SERVER:
        registered = scheme == _REGISTERED
        _require_server(mlflow.get_registry_uri() if registered else mlflow.get_tracking_uri())
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(target)))
    except (MlflowException, BotoCoreError, ClientError, OSError) as error:
        shown = without_password(uri)
        raise UserError(f"the model {shown} cannot be had: {reason(error)}") from error


def _require_server(uri: str) -> None:
    """See that a server answers: MLflow's client itself asks for minutes."""
    if urlsplit(uri).scheme not in ("http", "https"):
        return
    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=_SECONDS)
        answer.raise_for_status()
    except requests.RequestException as error:
        status = error.response.status_code if error.response is not None else ""
        why = f"it answers {status}" if status else "it does not answer"
        raise UserError(
            f"the tracking server at {without_password(uri)} cannot be used: {why}; start it, or"
            " give another by --tracking-uri"
        ) from error


def without_password(uri: str) -> str:
    """The same address for somebody else's eyes."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
