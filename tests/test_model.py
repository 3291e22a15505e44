"""`invoke model` before anything is built: what it takes, and how it refuses the rest."""

from __future__ import annotations

import http.server
import threading
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
import pytest
from mlflow.models import infer_signature

from seatrial.errors import UserError
from seatrial.model import description, image, locking
from seatrial.model.fetching import fetch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AMD, ARM = "linux/amd64", "linux/arm64"
FRAME = pd.DataFrame({"x": [1.0, 2.0]})


def same(model_input: pd.DataFrame) -> pd.DataFrame:
    """A model that gives back what it gets."""
    return model_input


def save(folder: Path, *requirements: str, signed: bool = True) -> Path:
    """A model that requires these."""
    mlflow.pyfunc.save_model(
        folder,
        python_model=same,
        signature=infer_signature(FRAME, FRAME) if signed else None,
        pip_requirements=list(requirements or ["mlflow==3.17.2"]),
    )
    return folder


def lock(folder: Path, target: Path, *platforms: str, build_sources: bool = False) -> bool:
    model = description.read(folder, str(folder))
    return locking.lock(model, folder, platforms or (AMD,), target, build_sources=build_sources)


@pytest.mark.parametrize(
    "tag",
    ["wine", "wine:3", "team/wine:v1.2", "localhost:5000/wine", "registry.example:5000/a/b-c_d:1"],
)
def test_references_are_known(tag: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no model at"):
        image.run(model_uri=str(tmp_path / "none"), tag=tag, platform="amd64")


@pytest.mark.parametrize("tag", ["Wine", "wine:", ":3", "wine 3", "wine:a:b", "-wine", "a//b", ""])
def test_what_is_no_reference_is_refused(tag: str) -> None:
    with pytest.raises(UserError, match="is no image reference, such as wine:3"):
        image.run(model_uri="nowhere", tag=tag, platform="amd64")


def test_folder_is_copied_and_readable_to_everybody(tmp_path: Path) -> None:
    source = save(tmp_path / "m")
    for path in source.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    target = tmp_path / "scratch"
    target.mkdir()
    folder = fetch(source.as_uri(), "", target)
    assert (folder / "MLmodel").read_bytes() == (source / "MLmodel").read_bytes()
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o644}


@pytest.mark.parametrize("uri", ["nowhere", "file:///nowhere/at/all"])
def test_missing_folder_is_one_line(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"there is no model at {uri}"):
        fetch(uri, "", tmp_path)


def test_empty_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="the folder is empty"):
        fetch(str(tmp_path / "empty"), "", tmp_path)


def test_server_that_is_down_is_one_line_without_its_password(tmp_path: Path) -> None:
    uri = "http://me:hunter2@127.0.0.1:9"
    with pytest.raises(UserError, match="it does not answer") as caught:
        fetch("models:/wine@champion", uri, tmp_path)
    assert "hunter2" not in str(caught.value)


@pytest.fixture
def broken_server() -> Iterator[str]:
    """Answers everything with 503."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            """Keep silent."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_server_that_is_ill_is_one_line(broken_server: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it answers 503"):
        fetch("runs:/0123/model", broken_server, tmp_path)


@pytest.mark.parametrize("uri", ["models:/none@champion", "models:/none/1", "runs:/0123456789/m"])
def test_unknown_model_is_one_line(uri: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(UserError, match=f"the model {uri} cannot be had: ") as caught:
        fetch(uri, store, tmp_path / "target")
    assert "\n" not in str(caught.value)


def test_server_that_is_named_is_asked_for_registered_models_too(
    broken_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(UserError, match="it answers 503"):
        fetch("models:/wine@champion", broken_server, tmp_path)


def test_description_of_a_model(tmp_path: Path) -> None:
    model = description.read(save(tmp_path / "m"), "m")
    assert model.mlflow == mlflow.__version__
    assert model.signature.startswith("sha256:")
    assert (model.name, model.version, model.run) == ("", "", "")


def test_signature_may_be_missing(tmp_path: Path) -> None:
    assert description.read(save(tmp_path / "m", signed=False), "m").signature == ""


@pytest.mark.parametrize("signed", [True, False])
def test_image_is_refused_to_a_model_without_a_signature(signed: bool, tmp_path: Path) -> None:
    """The model of another Python gets past that, and no further."""
    folder = save(tmp_path / "m", signed=signed)
    said = "was logged with Python" if signed else "has no signature.*--allow-unsigned"
    with pytest.raises(UserError, match=said):
        image.run(model_uri=str(folder), tag="wine", platform="amd64")


def test_same_signature_has_the_same_digest(tmp_path: Path) -> None:
    one, other = (description.read(save(tmp_path / name), name) for name in "ab")
    assert one.signature == other.signature


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("MLmodel", None, "m holds no model: there is no MLmodel in it"),
        ("MLmodel", "flavors: {sklearn: {}}\n", "has no python_function flavour"),
        ("MLmodel", "{", "the MLmodel of m cannot be read: "),
        ("MLmodel", "just text", "the MLmodel of m cannot be read: "),
        ("requirements.txt", None, "the model has no requirements.txt"),
    ],
)
def test_broken_model_is_one_line(file: str, text: str | None, said: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said) as caught:
        description.read(folder, "m")
    assert "\n" not in str(caught.value)


def test_python_without_a_base_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    text = (folder / "MLmodel").read_text(encoding="utf-8")
    for python, fits in (("3.13.5", True), ("3.11.9", False), ("3.1", False)):
        changed = [
            f"    python_version: {python}" if "python_version" in line else line
            for line in text.splitlines()
        ]
        (folder / "MLmodel").write_text("\n".join(changed), encoding="utf-8")
        model = description.read(folder, "m")
        if fits:
            locking.require_python(model)
        else:
            with pytest.raises(UserError, match=f"logged with Python {python}.*for Python 3.13"):
                locking.require_python(model)


def test_lock_holds_the_requirements_and_the_server_for_each_platform(tmp_path: Path) -> None:
    folder, target = save(tmp_path / "m", "mlflow==3.17.2", "six==1.16.0"), tmp_path / "lists"
    assert lock(folder, target, AMD, ARM) is False
    for architecture in ("amd64", "arm64"):
        locked = (target / architecture / "requirements.txt").read_text(encoding="utf-8")
        for pin in ("six==1.16.0", "mlflow==3.17.2", "uvloop==", "prometheus-client=="):
            assert f"\n{pin}" in f"\n{locked}", f"{architecture}: no {pin}"
        assert "--hash=sha256:" in locked
        assert "://" not in locked, "an address is recorded"
        assert (target / architecture / "sources.txt").read_text(encoding="utf-8") == ""


def test_lock_keeps_what_the_one_before_said(tmp_path: Path) -> None:
    target = tmp_path / "lists"
    lock(save(tmp_path / "a", "mlflow==3.17.2", "six==1.16.0"), target)
    lock(save(tmp_path / "b", "mlflow==3.17.2", "six"), target)
    locked = (target / "amd64" / "requirements.txt").read_text(encoding="utf-8")
    assert "six==1.16.0" in locked, "a newer version took its place, though nothing asks for it"


def test_lock_is_made_once_for_the_same_requirements(tmp_path: Path) -> None:
    """Without a look at the index, which may have newer versions by now."""
    target = tmp_path / "lists"
    lock(save(tmp_path / "a", "mlflow==3.17.2", "six"), target)
    file = target / "amd64" / "requirements.txt"
    file.write_text("six==1.0\n", encoding="utf-8")
    lock(save(tmp_path / "b", "mlflow==3.17.2", "six"), target)
    assert file.read_text(encoding="utf-8") == "six==1.0\n"
    lock(save(tmp_path / "c", "mlflow==3.17.2", "six>1.0"), target)
    assert "uvloop==" in file.read_text(encoding="utf-8")


def test_mlflow_is_added_where_the_model_does_not_ask_for_it(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    (folder / "requirements.txt").write_text("six\n", encoding="utf-8")
    lock(folder, tmp_path / "lists")
    locked = (tmp_path / "lists" / "amd64" / "requirements.txt").read_text(encoding="utf-8")
    assert f"\nmlflow=={mlflow.__version__}" in locked


@pytest.mark.parametrize(
    ("requirement", "said"),
    [
        ("seatrial-has-no-such-thing==1", "seatrial-has-no-such-thing was not found"),
        ("six==999", "there is no version of six==999"),
        ("pyspark==3.5.0", "pyspark==3.5.0 has no usable wheels.*--allow-emulated-build"),
        ("six==1.16.0 ; ; nonsense", "six"),
    ],
)
def test_unmet_requirement_is_one_line(requirement: str, said: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    with (folder / "requirements.txt").open("a", encoding="utf-8") as file:
        file.write(f"\n{requirement}\n")
    with pytest.raises(UserError, match=f"cannot be met on linux/arm64: .*{said}") as caught:
        lock(folder, tmp_path / "lists", ARM)
    assert "\n" not in str(caught.value)


def test_what_has_no_wheel_can_be_listed_for_building(tmp_path: Path) -> None:
    """Docopt is published as a source only."""
    folder = save(tmp_path / "m")
    (folder / "requirements.txt").write_text("mlflow==3.17.2\ndocopt==0.6.2\n", encoding="utf-8")
    assert lock(folder, tmp_path / "lists", build_sources=True) is True
    locked = (tmp_path / "lists" / "amd64" / "requirements.txt").read_text(encoding="utf-8")
    sources = (tmp_path / "lists" / "amd64" / "sources.txt").read_text(encoding="utf-8")
    assert "docopt==0.6.2" in sources
    assert "--hash=sha256:" in sources
    assert "docopt" not in locked
    assert "mlflow==3.17.2" in locked


def test_where_packages_are_goes_into_a_list_of_its_own(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    where = f"--find-links {tmp_path}"
    with (folder / "requirements.txt").open("a", encoding="utf-8") as file:
        file.write(f"\n{where}\n")
    lock(folder, tmp_path / "lists")
    assert (tmp_path / "lists" / "index.txt").read_text(encoding="utf-8") == f"{where}\n"
    locked = (tmp_path / "lists" / "amd64" / "requirements.txt").read_text(encoding="utf-8")
    assert str(tmp_path) not in locked


def test_names_of_requirements() -> None:
    text = "MLflow==3.1  # ours\n\n--index-url x\nsix ; python_version < '4'\nscikit_learn[a]>=1\n"
    assert locking.names(text) == {"mlflow", "six", "scikit-learn"}
