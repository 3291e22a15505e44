"""Bringing a model here, wherever it is kept."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from pathlib import Path
from urllib.request import url2pathname

import mlflow
import requests
from botocore.exceptions import BotoCoreError, ClientError
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from seatrial.errors import UserError, reason, without_password
from seatrial.model import description

_SECONDS = 10
_REGISTERED = "models"
_OF_A_SERVER = (_REGISTERED, "runs", "mlflow-artifacts")
_READABLE, _SEARCHABLE = 0o644, 0o755
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_FILE = re.compile(r"file:(?://[^/]*)?", re.IGNORECASE)
_LISTS = (description.REQUIREMENTS, "conda.yaml", "constraints.txt")
"""What of a model's files names package indexes."""
_CREDENTIALS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


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
        OSError: the disk is full.
    """
    match = _SCHEME.match(uri)
    scheme = match[1].lower() if match else ""
    if scheme in ("", "file"):
        source = url2pathname(_FILE.sub("", uri, count=1)) if scheme else uri
        folder = _copied(Path(source), without_password(uri), target / "model")
    else:
        folder = _downloaded(uri, scheme, tracking_uri, target)
    for path in (folder, *folder.rglob("*")):
        path.chmod(_SEARCHABLE if path.is_dir() else _READABLE)
    return folder


def hide_passwords(folder: Path) -> None:
    """Take users and passwords of addresses out of the lists that MLflow writes beside a model.

    Args:
        folder: the copy of a model, as `fetch` gives it; an image gets it as it is.
    """
    for path in (folder / name for name in _LISTS):
        if path.is_file():
            text = path.read_bytes().decode(errors="surrogateescape")
            path.write_bytes(without_password(text).encode(errors="surrogateescape"))


def _copied(source: Path, uri: str, target: Path) -> Path:
    try:
        if not source.is_dir():
            raise UserError(f"there is no model at {uri}: it is not a folder of this machine")
        if not any(source.iterdir()):
            raise UserError(f"there is no model at {uri}: the folder is empty")
        # A whole working directory is copied for minutes, to find that it is none.
        description.require_model(source, uri)
        _copy(source, target)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            # What was read is on another disk, maybe.
            error.filename, error.filename2 = str(target), None
            raise
        raise UserError(
            f"the model {uri} cannot be copied: {error.filename}: {error.strerror}"
        ) from error
    return target


def _copy(source: Path, target: Path) -> None:
    """Copy a folder as shutil.copytree does, which hangs at a device and tells errors as text.

    Raises:
        UserError: there is something else in it than files and folders.
        OSError: names the file that cannot be read, or the one that cannot be written.
    """
    target.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_symlink() and not path.exists():
            raise UserError(
                f"{path} is a link to {path.readlink()}, which is not there: remove the link from "
                "the model, or put there what it names"
            )
        if path.is_symlink() and source.resolve().is_relative_to(path.resolve()):
            raise UserError(
                f"{path} is a link to {path.readlink()}, in which it is itself: remove the link "
                "from the model"
            )
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            _copy(path, target / path.name)
        elif stat.S_ISREG(mode):
            _copy_file(path, target / path.name)
        else:
            raise UserError(f"{path} is neither a file nor a folder: remove it from the model")


def _copy_file(source: Path, target: Path) -> None:
    try:
        shutil.copy2(source, target)
    except OSError as error:
        # A file that was opened, and then cannot be read, goes without its name.
        error.filename = error.filename or str(source)
        raise


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
    except (
        MlflowException,
        BotoCoreError,
        ClientError,
        OSError,
        ValueError,  # an address that is none
        ImportError,  # the client of a store that is not installed
    ) as error:
        raise UserError(
            without_password(f"the model {uri} cannot be had: {reason(error)}")
        ) from error


def _require_server(uri: str) -> None:
    """See that a server answers: MLflow's client itself asks for minutes.

    Raises:
        UserError: it does not, or not to these credentials.
    """
    if not uri.lower().startswith(("http://", "https://")):
        return
    shown = without_password(uri)
    try:
        answer = http_request(  # type: ignore[no-untyped-call]
            get_default_host_creds(uri.rstrip("/")),  # type: ignore[no-untyped-call]
            "/health",
            "GET",
            max_retries=0,
            timeout=_SECONDS,
            raise_on_status=False,
        )
    except (MlflowException, ImportError) as error:
        raise UserError(
            f"the tracking server at {shown} cannot be used: {_no_answer(error)}"
        ) from error
    if answer.status_code in (401, 403):
        raise UserError(
            f"the tracking server at {shown} refuses the credentials ({answer.status_code}): give "
            f"{_CREDENTIALS}"
        )
    if not answer.ok:
        raise UserError(
            f"the tracking server at {shown} cannot be used: it answers {answer.status_code}; "
            "start it, or give another by --tracking-uri"
        )


def _no_answer(error: MlflowException | ImportError) -> str:
    """Why a server could not be asked, and how to mend it."""
    # MLflow's own words advise to wait longer.
    cause = error.__cause__ or error.__context__
    if isinstance(cause, requests.exceptions.SSLError):
        return (
            f"no TLS connection comes about ({without_password(reason(cause))}); name the server's "
            "certificate authority by MLFLOW_TRACKING_SERVER_CERT_PATH"
        )
    if isinstance(cause, requests.ConnectionError | requests.Timeout):
        return "it does not answer; start it, or give another by --tracking-uri"
    return without_password(reason(error))
