"""Downloading a model: `python -m seatrial.model.download`, a process of its own.

The server that keeps a model need not be friendly. It names files, sizes and places: a place on
this machine, at another server (to which MLflow would send the credentials of this one), a file
`../../x`, an endless file. So each place is checked before MLflow connects to it, and each name
before a file is written.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from seatrial.errors import UserError, printable, reason, without_password
from seatrial.model import description
from seatrial.model.copying import copy
from seatrial.model.limits import GIB, MOST_FILES, Budget, require_name

# For this process alone, and before MLflow reads them.
os.environ |= {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A server would name addresses for this machine to read from.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
}

import mlflow
import requests
import yaml
from botocore.exceptions import BotoCoreError, ClientError
from google.protobuf.json_format import ParseError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import (
    get_artifact_repository,
)
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 10
_MEMORY = 4 * GIB
"""Bytes: an answer of the server is held in memory as a whole."""
_STEPS = 4
"""Redirections from a name in the registry through a logged model to the files."""
_REGISTERED = "models"
_RUNS = "runs"
_OF_A_SERVER = (_REGISTERED, _RUNS, "mlflow-artifacts", "dbfs")
"""Schemes for which MLflow opens the store that it is told of; it makes one where there is none."""
_STORES = ("s3", "gs", "wasbs")
"""Stores whose place a server may name: MLflow's client connects to hosts that this machine's own
settings or the store's name decide, and sends no password there."""
_HTTP = ("http", "https")
_CREDENTIALS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_FAULTS = (
    MlflowException,
    BotoCoreError,
    ClientError,
    requests.RequestException,
    OSError,
    ValueError,  # an address that is none
    TypeError,  # an answer that is not of MLflow's form
    KeyError,
    AttributeError,
    RecursionError,
    ImportError,  # the client of a store that is not installed
    OverflowError,  # a size that no limit can be set to
    ParseError,  # an answer that is not of MLflow's form
    SQLAlchemyError,  # a database as the tracking server
)
"""Exceptions that MLflow raises for an answer that it does not check."""


class ModelLocation(NamedTuple):
    """Location of a model's files."""

    uri: str
    name: str = ""
    """Name in the registry; empty for a model from elsewhere."""
    version: str = ""


def main() -> int:
    """Download what standard input orders; print one line where that cannot be done.

    Returns:
        the exit code.
    """
    order = json.load(sys.stdin)
    _limit_memory()
    try:
        download(order["uri"], order["tracking_uri"], Path(order["target"]), order["max_gib"])
    except UserError as error:
        print(printable(str(error)))
        return 1
    except MemoryError:  # of the fault's own text, too: MLflow repeats an answer in it
        print(
            f"the model {printable(without_password(order['uri']))} cannot be had: an answer of the"
            f" server takes more than {_MEMORY // GIB} GiB of memory"
        )
        return 1
    return 0


def _limit_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def download(uri: str, tracking_uri: str, target: Path, max_gib: int) -> None:
    """Download a model.

    Args:
        uri: as MLflow reads it.
        tracking_uri: of the tracking server; empty for what MLflow's own variables say.
        target: is made, and gets the model's files.
        max_gib: the most that they may have.

    Raises:
        UserError: it is not there, cannot be reached, or is refused.
    """
    shown = without_password(uri)
    if tracking_uri:
        mlflow.set_tracking_uri(tracking_uri)
        # One that MLFLOW_REGISTRY_URI names is another server's.
        mlflow.set_registry_uri(tracking_uri)
    scheme = urlsplit_or_refuse(uri).scheme.lower()
    server = mlflow.get_registry_uri() if scheme == _REGISTERED else mlflow.get_tracking_uri()
    if scheme in _OF_A_SERVER:
        _require_server(server)
    try:
        place = _locate(uri)
        _require_trusted(place.uri, server, shown, given=place.uri == uri)
        _fetch_all(place, target, Budget(max_gib), uri)
    except _FAULTS as error:
        raise UserError(
            without_password(f"the model {shown} cannot be had: {reason(error)[:400]}")
        ) from error


def urlsplit_or_refuse(uri: str) -> Any:  # noqa: ANN401 - urllib's own class is private
    """Take an address apart.

    Raises:
        UserError: it is none.
    """
    try:
        return urlsplit(uri)
    except ValueError as error:
        raise UserError(
            f"the model {without_password(uri)} cannot be had: {reason(error)}"
        ) from error


def _locate(uri: str) -> ModelLocation:
    """Ask the server where the files are, until it names a place rather than another model."""
    place = ModelLocation(uri)
    for _ in range(_STEPS):
        scheme = urlsplit_or_refuse(place.uri).scheme.lower()
        if scheme == _REGISTERED:
            place = _of_the_registry(place)
        elif scheme == _RUNS:
            place = place._replace(uri=_of_a_run(place.uri))
        else:
            return place
    raise UserError(
        f"the model {without_password(uri)} cannot be had: the server names one model after another"
    )


def _of_the_registry(place: ModelLocation) -> ModelLocation:
    root, path = ModelsArtifactRepository.split_models_uri(place.uri)  # type: ignore[no-untyped-call]
    name, version, uri = ModelsArtifactRepository._get_model_uri_infos(root)  # type: ignore[no-untyped-call]  # noqa: SLF001
    # Of a part of a model nothing in the registry is told.
    known = place if place.name or path or not name else ModelLocation("", str(name), str(version))
    return known._replace(uri=_joined(str(uri), path))


def _of_a_run(uri: str) -> str:
    """The place of a run's artifact, or of the model that the run has logged under that name."""
    run_id, path = RunsArtifactRepository.parse_runs_uri(uri)  # type: ignore[no-untyped-call]
    client = MlflowClient()
    run = client.get_run(run_id)
    name, _, rest = (path or "").partition("/")
    token: str | None = None
    while name:
        page = client.search_logged_models(
            experiment_ids=[run.info.experiment_id],
            filter_string=f"name = '{_quoted(name)}'",
            page_token=token,
        )
        for model in page:
            if model.source_run_id == run_id:
                return _joined(str(model.artifact_location), rest)
        token = page.token
        if not token:
            break
    return _joined(str(run.info.artifact_uri), path or "")


def _quoted(name: str) -> str:
    if "'" in name or "\\" in name:
        raise UserError(f"the model's name {name!r} holds a quote: give its models:/ address")
    return name


def _joined(uri: str, path: str) -> str:
    return f"{uri.rstrip('/')}/{path}" if path else uri


def _require_trusted(uri: str, server: str, shown: str, *, given: bool) -> None:
    """See that a place which a server has named is one to connect to.

    Raises:
        UserError: it is not; whoever knows better can give it as the model's address.
    """
    place, asked = urlsplit_or_refuse(uri), urlsplit_or_refuse(server)
    scheme = place.scheme.lower()
    if given or scheme in _STORES:
        return
    local = asked.scheme.lower() not in _HTTP
    if scheme in ("", "file"):
        if local:
            return
        raise UserError(
            f"the model {shown} is refused: the server says that it is at {without_password(uri)},"
            " on this machine, whose files no server chooses; if it is there, give that folder by"
            " --model-uri"
        )
    same = (
        place.netloc.rpartition("@")[2].lower() == asked.netloc.rpartition("@")[2].lower()
        # urllib3, which connects, ends the host at a backslash; urllib does not.
        and "\\" not in uri
        and uri.isprintable()
        # Nor are credentials for TLS sent without it.
        and scheme in (asked.scheme.lower(), "mlflow-artifacts")
    )
    if (scheme == "mlflow-artifacts" and not place.netloc) or (
        scheme in (*_HTTP, "mlflow-artifacts") and same
    ):
        return
    raise UserError(
        f"the model {shown} is refused: the server says that it is at {without_password(uri)},"
        " elsewhere, and this machine's credentials would be sent there; if you trust that place,"
        " give it by --model-uri"
    )


def _fetch_all(place: ModelLocation, target: Path, budget: Budget, uri: str) -> None:
    if urlsplit_or_refuse(place.uri).scheme.lower() in ("", "file"):
        folder = Path(local_file_uri_to_path(place.uri))  # type: ignore[no-untyped-call]
        description.require_model(folder, without_password(uri))
        copy(folder, target, budget)  # MLflow's own follows links
    else:
        _fetch_files(place, target, budget, uri)
    if place.name:
        known = {"model_name": place.name, "model_version": place.version}
        (target / description.REGISTERED).write_text(yaml.safe_dump(known), encoding="utf-8")


def _fetch_files(place: ModelLocation, target: Path, budget: Budget, uri: str) -> None:
    repository = get_artifact_repository(place.uri)
    files = list(_listed(repository, "", uri))
    if description.MLMODEL not in files:
        description.require_model(target, without_password(uri))
    target.mkdir()
    for path in files:
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with _limited_files(budget.left):
            repository._download_file(path, str(file))  # type: ignore[no-untyped-call]  # noqa: SLF001
        if file.is_symlink() or not file.is_file():
            raise UserError(f"the model is refused: {path!r} came as something else than a file")
        budget.take(path, file.stat().st_size)


def _listed(repository: Any, folder: str, uri: str) -> Iterator[str]:  # noqa: ANN401
    """Every file's path, each checked before the server is asked for more."""
    todo, seen = [folder], 0
    while todo:
        inside = todo.pop()
        for entry in repository.list_artifacts(inside or None):
            path = str(entry.path)
            if path in (".", inside):
                continue  # some stores list a folder in itself
            require_name(path)
            if inside and not path.startswith(f"{inside}/"):
                raise UserError(
                    f"the model is refused: the server lists {path!r} in the folder {inside!r}"
                )
            seen += 1
            if seen > MOST_FILES:
                raise UserError(
                    f"the model {without_password(uri)} has more than {MOST_FILES} files and"
                    " folders: log it with fewer, such as an archive"
                )
            if entry.is_dir:
                todo.append(path)
            else:
                yield path


class _limited_files:  # noqa: N801 - read as a statement
    """Let no file that is written meanwhile grow beyond this size: writing more is an OSError."""

    def __init__(self, size: int) -> None:
        self._size = max(0, size) + 1
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def __enter__(self) -> None:
        hard = self._before[1]
        most = self._size if hard == resource.RLIM_INFINITY else min(self._size, hard)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


def _require_server(uri: str) -> None:
    """See that a server answers: MLflow's client itself asks for minutes.

    Raises:
        UserError: it does not, or not to these credentials, or there is no store where it would be.
    """
    if not uri.lower().startswith(("http://", "https://")):
        _require_store(uri)
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
            stream=True,
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
    if answer.is_redirect:
        to = without_password(answer.headers["location"])[:200]
        raise UserError(
            f"the tracking server at {shown} sends its clients to {to!r}, which is not followed: "
            "give the address where it answers by --tracking-uri"
        )
    if not answer.ok:
        raise UserError(
            f"the tracking server at {shown} cannot be used: it answers {answer.status_code}; "
            "start it, or give another by --tracking-uri"
        )


def _require_store(uri: str) -> None:
    """See that a store on this machine is there: MLflow would make one to look into it.

    Raises:
        UserError: it is not.
    """
    match = re.match(r"sqlite(?:\+\w+)?:///(.+?)(?:\?.*)?$", uri)
    if match and not os.path.isfile(match[1]):  # noqa: PTH113 - Path's fails on a long name
        raise UserError(
            f"no tracking server is named, and there is no database {match[1]}: give"
            " --tracking-uri, or set MLFLOW_TRACKING_URI"
        )


def _no_answer(error: MlflowException | ImportError) -> str:
    """Word why a server did not answer, and how to mend it."""
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


if __name__ == "__main__":
    sys.exit(main())
