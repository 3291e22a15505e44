"""`invoke model` on models that attack: nothing runs, nothing is sent, nothing foreign is read."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
import pytest
from hostile_models import OF_FOLDERS, VARIABLE, Attack, Trap
from hostile_server import MISDEEDS, Misdeed, serve
from mlflow.models import infer_signature
from repository import ROOT

from seatrial.errors import UserError
from seatrial.model import description, image
from seatrial.model.fetching import fetch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "hunter2-of-this-machine"
FOREIGN = "not the model's business"


class Listener:
    """A socket that keeps what it is sent."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.received: list[bytes] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    @property
    def url(self) -> str:
        """URL at which it listens."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def _listen(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                connection.settimeout(2)
                try:
                    data = connection.recv(65536)
                except OSError as error:
                    data = f"connected, and then {error}".encode()
                if data == b"stop":
                    return
                self.received.append(data)

    def stop(self) -> None:
        """Listen no longer."""
        with socket.create_connection(self._socket.getsockname()) as last:
            last.send(b"stop")
        self._thread.join()
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.stop()


@pytest.fixture
def trap(tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> Trap:
    monkeypatch.setenv(VARIABLE, SECRET)
    foreign = tmp_path / "foreign" / "secret.txt"
    foreign.parent.mkdir()
    foreign.write_text(FOREIGN, encoding="utf-8")
    package = tmp_path / "package"
    package.mkdir()
    sentinel = tmp_path / "foreign" / "secret.txt.ran"
    (package / "setup.py").write_text(f"open({str(sentinel)!r}, 'w')", encoding="utf-8")
    return Trap(sentinel, listener.url, foreign, package)


@pytest.fixture(scope="session")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is refused for nothing but what a test adds."""
    folder = tmp_path_factory.mktemp("ordinary") / "model"
    frame = pd.DataFrame({"x": [1.0]})
    mlflow.pyfunc.save_model(
        folder,
        python_model=_same,
        signature=infer_signature(frame, frame),
        pip_requirements=["mlflow==3.17.2"],
    )
    path = folder / "MLmodel"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"python_version: .*", "python_version: 3.13.5", text), encoding="utf-8")
    return folder


def _same(model_input: pd.DataFrame) -> pd.DataFrame:
    return model_input


@pytest.fixture
def model(ordinary: Path, tmp_path: Path) -> Path:
    copied = tmp_path / "model"
    subprocess.run(["cp", "-r", ordinary, copied], check=True)
    return copied


def assert_harmless(trap: Trap, listener: Listener, told: str) -> None:
    assert not trap.sentinel.exists(), "code of the model has run on this machine"
    assert not listener.received, f"somebody was connected to: {listener.received!r}"
    assert FOREIGN not in told
    assert SECRET not in told
    assert "\n" not in told
    assert "Traceback" not in told
    assert told.isprintable()


@pytest.mark.parametrize("attack", OF_FOLDERS, ids=lambda attack: attack.name.replace(" ", "-"))
def test_hostile_folder_is_refused(
    attack: Attack, model: Path, trap: Trap, listener: Listener
) -> None:
    attack.apply(model, trap)
    allow = [attack.allow.replace("{url}", trap.url)] if attack.allow else []
    with pytest.raises(UserError) as caught:
        image.run(model_uri=str(model), tag="hostile:1", platform="amd64", allow_index=allow)
    told = str(caught.value)
    assert attack.refusal in told, told
    assert_harmless(trap, listener, told)


def test_ordinary_folder_is_not_refused_by_the_same_rules(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets as far as the builder."""

    def stop(_: object) -> None:
        raise UserError("here a builder is looked for")

    monkeypatch.setattr(image, "find", stop)
    with pytest.raises(UserError, match="here a builder is looked for"):
        image.run(model_uri=str(model), tag="ordinary:1", platform="amd64")


def test_settings_of_a_model_may_be_called_as_its_files_are(model: Path) -> None:
    path = model / "MLmodel"
    settings = "config: {path: /mnt/data, env: /prod, code: ../x}"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("code: null", settings), encoding="utf-8")
    assert settings in path.read_text(encoding="utf-8")
    assert description.read(model, str(model)).mlflow


@pytest.mark.parametrize("misdeed", MISDEEDS, ids=lambda one: one.name.replace(" ", "-"))
def test_hostile_server_is_refused(
    misdeed: Misdeed,
    trap: Trap,
    listener: Listener,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = serve(misdeed, str(trap.foreign.parent), trap.url)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    target = tmp_path / "target"
    target.mkdir()
    limits = {"max_gib": 0} if misdeed.endless else {}
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(UserError) as caught:
            fetch("runs:/0123/model", url, target, **limits)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    told = str(caught.value)
    assert misdeed.refusal in told, told
    assert_harmless(trap, listener, told)
    escaped = [path for path in tmp_path.rglob("*escaped*") if "model" not in path.parts]
    assert not escaped, f"written outside the model's folder: {escaped}"


def test_refusal_on_the_command_line_is_one_line(
    model: Path, trap: Trap, listener: Listener
) -> None:
    with (model / "requirements.txt").open("a", encoding="utf-8") as file:
        file.write(f"\n--extra-index-url {trap.url}/${{{VARIABLE}}}/\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "invoke", "model", "--platform", "amd64"),
            *("--model-uri", str(model), "--tag", "hostile:1"),
        ],
        cwd=ROOT,
        env={**os.environ, VARIABLE: SECRET},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert_harmless(trap, listener, done.stderr.strip())
    assert done.stderr.startswith("seatrial: the model's requirements.txt is refused: ")


def test_reference_that_is_too_long_is_refused(model: Path) -> None:
    with pytest.raises(UserError, match="--tag is longer than 240 characters"):
        image.run(model_uri=str(model), tag="a" * 250 + ":1", platform="amd64")


@pytest.mark.parametrize("tracking_uri", ["sqlite:///" + "a" * 300, "sqlite:////proc/x/y"])
def test_store_that_cannot_be_is_one_line(tracking_uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tracking server is named"):
        fetch("models:/wine@champion", tracking_uri, tmp_path)


@pytest.mark.parametrize("uri", ["models:/wine@champion", "dbfs:/wine"])
def test_no_store_is_made_where_none_is(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's default is a database in the caller's folder, which it makes."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match="no tracking server is named"):
        fetch(uri, "", tmp_path)
    assert not list(folder.iterdir())
