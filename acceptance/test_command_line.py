"""The `mlflow` program of an image: help of every subcommand, and commands without a server."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import mlflow
import pytest
from alembic import command as alembic
from mlflow.cli import cli
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from sqlalchemy import create_engine

from seatrial.backends.base import DATA_PATH

from .comparisons import assert_equal
from .inside import explanations
from .models import DOUBLING, put_doubling

if TYPE_CHECKING:
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.workspace import Workspace

pytestmark = pytest.mark.promise("command_line.complete")

EARLY_REVISION = "451aebb31d03"
"""The schema of MLflow 1.0, which every later version can upgrade."""
CONTENT = bytes(range(256)) * 5
TRACEBACK = "Traceback (most recent call last)"

LOG_A_RUN = f"""
import json, mlflow
experiment = mlflow.create_experiment("prepared", "{DATA_PATH}/artifacts")
with mlflow.start_run(experiment_id=experiment) as run:
    mlflow.log_param("depth", 7)
    mlflow.log_metric("loss", 0.25)
    mlflow.log_text("to be deleted", "note.txt")
print(json.dumps([experiment, run.info.run_id]))
"""


class RunMlflow(Protocol):
    """Run `mlflow` in the workspace, and require exit code 0 and no traceback."""

    def __call__(self, *arguments: str) -> str:
        """Return what the program prints on standard output."""


@pytest.fixture
def run_mlflow(workspace: Workspace) -> RunMlflow:
    """Run `mlflow` in the workspace, and require exit code 0 and no traceback."""

    def run(*arguments: str) -> str:
        work, command = workspace.mlflow(*arguments), " ".join(arguments)
        assert work.code == 0, f"`mlflow {command}` ended with {work}"
        assert TRACEBACK not in work.output, f"`mlflow {command}` shows a traceback: {work}"
        return work.printed

    return run


def usage(words: list[str]) -> re.Pattern[str]:
    """Make a pattern of the first line of a subcommand's help."""
    return re.compile(r"^Usage: " + " ".join([r"\S+", *words]) + r"(?!\S)", re.MULTILINE)


@pytest.fixture
def logged(workspace: Workspace) -> tuple[str, str]:
    """The ids of an experiment and of a run in it, which the image itself has logged."""
    work = workspace.python(LOG_A_RUN)
    assert work.code == 0, f"the image can't log a run to SQLite: {work}"
    experiment, run = json.loads(work.printed.splitlines()[-1])
    return experiment, run


@pytest.fixture
def model(workspace: Workspace, tmp_path: Path) -> str:
    """The path, in the workspace, of a model that needs nothing beside MLflow."""
    return put_doubling(workspace, tmp_path)


class TestExplanations:
    """The text of `--help`."""

    @pytest.fixture
    def explained(self, image: ImageUnderTest, workspace: Workspace) -> dict[str, Any]:
        """The help of every subcommand."""
        start = [*image.configuration.entrypoint, *image.mlflow_command]
        script = Path(explanations.__file__).read_text(encoding="utf-8")
        work = workspace.python(script, *start)
        assert work.code == 0, f"the subcommands can't be listed: {work}"
        found: dict[str, Any] = json.loads(work.printed.splitlines()[-1])
        return found

    def test_every_subcommand_explains_itself(self, explained: dict[str, Any]) -> None:
        faults = [
            f"`mlflow {' '.join(words)} --help`: exit code {code}:\n{text[-2000:]}"
            for words, code, text in explained["answers"]
            if code != 0 or TRACEBACK in text or not usage(words).search(text)
        ]
        assert not faults, (
            f"{len(faults)} of {len(explained['answers'])} subcommands don't explain themselves,"
            f" such as {faults[0]}"
        )

    def test_no_subcommand_is_missing(self, explained: dict[str, Any]) -> None:
        """MLflow leaves a group out, without a warning, where an import of it fails."""
        if explained["version"] != mlflow.__version__:
            pytest.skip(
                f"the image has MLflow {explained['version']}: its subcommands are compared where"
                f" the client has the same version, here it has {mlflow.__version__}"
            )
        there = {tuple(words) for words, _, _ in explained["answers"]}
        wanted = {tuple(words) for words in explanations.subcommands(cli, [])}
        missing = sorted(" ".join(words) for words in wanted - there)
        assert not missing, f"the image's `mlflow` lacks the subcommands {', '.join(missing)}"

    def test_the_program_explains_itself(self, run_mlflow: RunMlflow) -> None:
        """The command goes through the entry point, as a user types it."""
        printed = run_mlflow("--help")
        assert "Usage:" in printed, f"`mlflow --help` prints no usage, but {printed[:500]!r}"


def test_version(workspace: Workspace, run_mlflow: RunMlflow) -> None:
    printed = run_mlflow("--version")
    installed = workspace.python(
        "from importlib.metadata import version; print(version('mlflow'))"
    ).printed.strip()
    assert installed, "the version of the distribution mlflow can't be read"
    assert printed.split()[-1] == installed, (
        f"`mlflow --version` prints {printed!r}; the distribution in the image is {installed}"
    )


def test_doctor(workspace: Workspace, run_mlflow: RunMlflow) -> None:
    printed = run_mlflow("doctor")
    for line in ("MLflow version", "Python version", "Tracking URI", "MLflow dependencies"):
        assert line in printed, f"`mlflow doctor` doesn't print the {line}: {printed}"
    assert workspace.tracking_uri in printed, (
        f"`mlflow doctor` doesn't print its tracking URI {workspace.tracking_uri}: {printed}"
    )


def test_upgrade_of_a_database(workspace: Workspace, run_mlflow: RunMlflow) -> None:
    """An early database, made here, gets the schema of the image, and keeps its rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "early.db")
        engine = create_engine(f"sqlite:///{path}")
        InitialBase.metadata.create_all(engine)
        alembic.upgrade(_get_alembic_config(f"sqlite:///{path}"), EARLY_REVISION)
        engine.dispose()
        with sqlite3.connect(path) as database:
            database.execute(
                "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage)"
                " VALUES (7, 'early', '/nowhere', 'active')"
            )
        workspace.put({"early.db": path.read_bytes()})
        run_mlflow("db", "upgrade", f"sqlite:///{DATA_PATH}/early.db")
        path.write_bytes(workspace.files()["early.db"])
        with sqlite3.connect(path) as database:
            revisions = database.execute("SELECT version_num FROM alembic_version").fetchall()
            kept = database.execute("SELECT name FROM experiments WHERE experiment_id = 7")
            rows = kept.fetchall()
            assert rows == [("early",)], (
                f"after `mlflow db upgrade`, the database has {rows} of the experiment 'early'"
            )
    head = workspace.python(
        "from mlflow.store.db.utils import _get_latest_schema_revision as latest; print(latest())"
    ).printed.strip()
    assert revisions == [(head,)], (
        f"`mlflow db upgrade` left the schema at {revisions}; the image's newest is {head}"
    )


def test_experiments(run_mlflow: RunMlflow) -> None:
    printed = run_mlflow("experiments", "create", "--experiment-name", "typed")
    found = re.search(r"with id (\d+)", printed)
    assert found, f"`mlflow experiments create` doesn't name the id: {printed}"
    listed = run_mlflow("experiments", "search")
    assert re.search(rf"\b{found[1]}\s+typed\b", listed), (
        f"`mlflow experiments search` doesn't list the experiment that was created:\n{listed}"
    )


def test_runs(workspace: Workspace, run_mlflow: RunMlflow, logged: tuple[str, str]) -> None:
    experiment, run = logged
    listed = run_mlflow("runs", "list", "--experiment-id", experiment)
    assert run in listed, f"`mlflow runs list` doesn't list the run {run}:\n{listed}"
    run_mlflow("experiments", "csv", "--experiment-id", experiment, "--filename", "runs.csv")
    table = workspace.files().get("runs.csv")
    assert table, "`mlflow experiments csv` wrote no file"
    rows = list(csv.DictReader(io.StringIO(table.decode())))
    assert len(rows) == 1, f"of one run, `mlflow experiments csv` wrote {len(rows)} rows: {rows}"
    [row] = rows
    assert_equal(
        "the run, with its param and its metric, in the file of `mlflow experiments csv`",
        (row["run_id"], row["params.depth"], float(row["metrics.loss"])),
        (run, "7", 0.25),
    )


def test_artifacts(workspace: Workspace, run_mlflow: RunMlflow, logged: tuple[str, str]) -> None:
    _, run = logged
    workspace.put({"data.bin": CONTENT})
    place = ("--run-id", run, "--artifact-path")
    run_mlflow("artifacts", "log-artifact", "--local-file", "data.bin", *place, "folder")
    stored = workspace.files().get(f"artifacts/{run}/artifacts/folder/data.bin")
    assert stored == CONTENT, (
        "`mlflow artifacts log-artifact` wrote a file of"
        f" {len(CONTENT)} bytes, and the store holds {_size(stored)} of it"
    )
    listed = run_mlflow("artifacts", "list", *place, "folder")
    entries = json.loads(listed[listed.index("[") :])
    assert_equal(
        "the list (path, size) that `mlflow artifacts list` prints of a folder of one file",
        [(entry["path"], int(entry["file_size"])) for entry in entries],
        [("folder/data.bin", len(CONTENT))],
    )
    run_mlflow("artifacts", "download", *place, "folder/data.bin", "--dst-path", "fetched")
    fetched = {
        path: content for path, content in workspace.files().items() if path.startswith("fetched/")
    }
    sizes = {path: _size(content) for path, content in fetched.items()}
    assert list(fetched.values()) == [CONTENT], (
        f"of an artifact of {len(CONTENT)} bytes, `mlflow artifacts download` wrote {sizes}"
    )


def _size(content: bytes | None) -> str:
    """Describe what was written in the place of `CONTENT`, for messages."""
    if content is None:
        return "nothing"
    return f"{len(content)} bytes" if len(content) != len(CONTENT) else "as many, other bytes"


def test_gc(workspace: Workspace, run_mlflow: RunMlflow, logged: tuple[str, str]) -> None:
    experiment, run = logged
    kept = f"artifacts/{run}/artifacts/note.txt"
    run_mlflow("runs", "delete", "--run-id", run)
    assert kept in workspace.files(), (
        f"`mlflow runs delete` removed {kept}, which only `mlflow gc` may do"
    )
    store = ("--backend-store-uri", workspace.tracking_uri)
    run_mlflow("gc", *store, "--run-ids", run)
    assert kept not in workspace.files(), f"`mlflow gc` left {kept}, an artifact of a deleted run"
    listed = run_mlflow("runs", "list", "--experiment-id", experiment, "--view", "all")
    assert run not in listed, (
        f"`mlflow runs list` lists the run that `mlflow gc` removed:\n{listed}"
    )


class TestModels:
    """Commands for models that work in the image's own environment."""

    def test_predict(self, workspace: Workspace, run_mlflow: RunMlflow, model: str) -> None:
        workspace.put({"input.csv": b"x\n1\n2.5\n-4\n"})
        files = ("--content-type", "csv", "--input-path", "input.csv", "--output-path", "out.json")
        run_mlflow("models", "predict", "--model-uri", model, "--env-manager", "local", *files)
        assert_equal(
            "the list of predictions in the file of `mlflow models predict`",
            json.loads(workspace.files()["out.json"])["predictions"],
            [2, 5, -8],
        )

    def test_generate_dockerfile(
        self, workspace: Workspace, run_mlflow: RunMlflow, model: str
    ) -> None:
        options = ("--model-uri", model, "--env-manager", "local", "--output-directory", "out")
        run_mlflow("models", "generate-dockerfile", *options)
        files = workspace.files()
        dockerfile = files["out/Dockerfile"].decode()
        case = "`mlflow models generate-dockerfile` wrote a Dockerfile"
        assert re.search(r"^FROM \S+", dockerfile, re.MULTILINE), (
            f"{case} without FROM:\n{dockerfile}"
        )
        assert "ENTRYPOINT" in dockerfile, f"{case} that starts nothing:\n{dockerfile}"
        copied = [path for path in files if re.fullmatch(r"out/.+/code/doubling\.py", path)]
        assert_equal(
            "the list of copies of the model's code beside the Dockerfile",
            [files[path] for path in copied],
            [DOUBLING.encode()],
        )

    def test_update_pip_requirements(
        self, workspace: Workspace, run_mlflow: RunMlflow, model: str
    ) -> None:
        command = ("models", "update-pip-requirements", "--model-uri", model)
        run_mlflow(*command, "add", "tomli==2.2.1")
        listed = workspace.files()["model/requirements.txt"].decode().split()
        assert "tomli==2.2.1" in listed, (
            "`mlflow models update-pip-requirements` added tomli==2.2.1 to a model, whose"
            f" requirements.txt lists {listed}"
        )
