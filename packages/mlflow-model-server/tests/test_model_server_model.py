"""What the server does for a model: its surroundings, and its numbers in JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from mlflow_model_server import model_home, strict_json

PACKAGE = Path(__file__).parents[1]
FOLDERS = [PACKAGE, PACKAGE.with_name("mlflow-entrypoint")]
NOBODY = 54321
"""A user that no machine knows."""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"predictions": [NaN, 1.5]}', {"predictions": [None, 1.5]}),
        (b'{"predictions": [Infinity]}', {"predictions": [None]}),
        (b'{"predictions": [-Infinity, 2]}', {"predictions": [None, 2]}),
        (b'[NaN, "NaN", "Infinity"]', [None, "NaN", "Infinity"]),
    ],
)
def test_numbers_that_are_not_finite_become_null(body: bytes, expected: object) -> None:
    assert json.loads(strict_json.strict(body), parse_constant=pytest.fail) == expected


@pytest.mark.parametrize("body", [b"[1.0 , 2]", b'{"Name":   "Ida"}', b'["Not a number"]', b"N, I"])
def test_other_answers_stay_as_they_are(body: bytes) -> None:
    """To the byte: they are not parsed, which would cost more than the rest of the request."""
    assert strict_json.strict(body) is body


@pytest.fixture
def writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return str(tmp_path)


def _prepared(**environment: str) -> dict[str, str]:
    model_home.prepare(environment)
    return environment


def test_home_that_can_be_written_to_is_kept(writable: str) -> None:
    home = Path(writable, "home")
    home.mkdir()
    assert _prepared(HOME=str(home), USER="ida")["HOME"] == str(home)


@pytest.mark.parametrize("home", ["", "/nowhere/at/all", "file"])
def test_home_is_where_files_can_be_written(
    writable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch(0o777)
    assert _prepared(HOME=home, USER="ida")["HOME"] == writable
    assert _prepared(USER="ida")["HOME"] == writable


def test_home_of_somebody_else_is_not_used() -> None:
    """In a process without privileges: for root, every folder can be written to."""
    program = (
        "import os, tempfile; from mlflow_model_server import model_home;"
        "os.getuid() or os.setuid(65534);"
        "tempfile.tempdir = '/tmp'; environment = {'HOME': '/usr', 'USER': 'ida'};"
        "model_home.prepare(environment); print(environment['HOME'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, FOLDERS))},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "/tmp\n"


def test_folder_that_can_be_written_to_is_kept(
    writable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "models")
    _prepared(HOME=writable)
    assert os.getcwd() == str(tmp_path / "models")  # noqa: PTH109 - what the model sees


def test_user_without_a_name_is_named_by_number(
    writable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: NOBODY)
    named = _prepared(HOME=writable)
    assert (named["USER"], named["LOGNAME"]) == (str(NOBODY), str(NOBODY))


@pytest.mark.parametrize("variable", ["USER", "LOGNAME"])
def test_name_of_a_user_is_kept(
    writable: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: NOBODY)
    assert _prepared(HOME=writable, **{variable: "ida"}) == {"HOME": writable, variable: "ida"}


def test_user_that_the_machine_knows_needs_no_variable(writable: str) -> None:
    assert _prepared(HOME=writable) == {"HOME": writable}


def test_nothing_is_changed_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    monkeypatch.setattr(os, "getuid", lambda: NOBODY)
    assert _prepared(HOME="/nowhere") == {"HOME": "/nowhere"}
