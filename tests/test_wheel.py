"""What is in the wheel: all that a trial needs outside this repository, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser
from email.parser import Parser
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest
from repository import PROJECT, ROOT, needs_buildx

from seatrial import __version__
from seatrial.catalogue.bake_file import environment, evaluate

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACES = {
    "seatrial": "seatrial",
    "acceptance": "seatrial/acceptance",
    "docker/bases": "seatrial/packaged/docker/bases",
    "docker/services": "seatrial/packaged/docker/services",
    **{
        f"packages/{name}/{folder}": f"seatrial/packaged/packages/{name}/{folder}"
        for name, module in (
            ("mlflow-entrypoint", "mlflow_entrypoint"),
            ("mlflow-model-server", "mlflow_model_server"),
        )
        for folder in ("bin", module)
    },
    "docker/model-server": "seatrial/packaged/docker/model-server",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    """The wheel of the tree as it stands."""
    folder = tmp_path_factory.mktemp("wheel")
    words = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("seatrial-*.whl")
    with ZipFile(path) as archive:
        yield archive


def tracked(folder: str) -> set[str]:
    """The files of a folder that git has, or will have."""
    words = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", folder]
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}


@pytest.mark.parametrize("folder", PLACES)
def test_every_file_is_there(wheel: ZipFile, folder: str) -> None:
    place = PLACES[folder]
    wanted = {f"{place}{name.removeprefix(folder)}" for name in tracked(folder)}
    assert wanted
    assert wanted <= set(wheel.namelist())


def test_nothing_else_is_there(wheel: ZipFile) -> None:
    places = ("seatrial/", f"seatrial-{__version__}.dist-info/")
    others = [name for name in wheel.namelist() if not name.startswith(places)]
    assert not others
    made = [name for name in wheel.namelist() if "__pycache__" in name or "/.seatrial/" in name]
    assert not made


@needs_buildx
def test_every_context_of_services_and_models_is_there(wheel: ZipFile) -> None:
    """What bake would look for below the package, target by target."""
    targets = evaluate(PROJECT, ("services", "models", "python-slim"), environment({}, {}))[
        "target"
    ]
    folders = {
        str(PurePosixPath(name).parent).removeprefix("seatrial/packaged/")
        for name in wheel.namelist()
    }
    for name, target in targets.items():
        for place in (target["context"], *target.get("contexts", {}).values()):
            elsewhere = place.startswith(("target:", "docker-image:", str(PROJECT.state)))
            assert elsewhere or not place or place in folders, f"{name} lacks {place}"


def test_what_is_installed_with_it(wheel: ZipFile) -> None:
    information = f"seatrial-{__version__}.dist-info"
    metadata = Parser().parsestr(wheel.read(f"{information}/METADATA").decode())
    assert metadata["Version"] == __version__
    required = {each.partition(";")[0].strip() for each in metadata.get_all("Requires-Dist", [])}
    assert {"mlflow", "testcontainers"} <= required
    assert required.isdisjoint({"ruff", "mypy", "nox", "hatchling"})
    points = ConfigParser(delimiters="=")
    points.read_string(wheel.read(f"{information}/entry_points.txt").decode())
    assert dict(points["console_scripts"]) == {"seatrial": "seatrial.tasks:program.run"}
    assert dict(points["pytest11"]) == {"seatrial.trial.plugin": "seatrial.trial.plugin"}
