"""A version that a build was asked for and that nobody has published is one line."""

from __future__ import annotations

import base64
import io
import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from uv import find_uv_bin

from seatrial.build import bake, network
from seatrial.build.progress import Build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "rocketry"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index with two versions of one distribution; the second requires what is absent."""
    folder = tmp_path / "simple" / NAME
    folder.mkdir(parents=True)
    links = []
    for version, more in (("1.0", "Provides-Extra: fuel\n"), ("2.0", "Requires-Dist: absent==9\n")):
        name = f"{NAME}-{version}-py3-none-any.whl"
        info = f"{NAME}-{version}.dist-info"
        with zipfile.ZipFile(folder / name, "w") as wheel:
            wheel.writestr(
                f"{info}/METADATA",
                f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}\n{more}",
            )
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        links.append(f'<a href="{name}">{name}</a>')
    (folder / "index.html").write_text("<!DOCTYPE html>" + "".join(links))
    monkeypatch.setenv("UV_DEFAULT_INDEX", (tmp_path / "simple").as_uri())
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def resolve(index: Path) -> Callable[[str, str], str]:
    """Have uv resolve a requirement with a pin, and give back what it says, as builds do."""

    def resolve(requirement: str, version: str) -> str:
        constraints = index / "constraints.txt"
        constraints.write_text(f"{NAME}=={version}\n")
        done = subprocess.run(
            [
                *(find_uv_bin(), "pip", "compile", "-", "--quiet", "--only-binary", ":all:"),
                *("--no-config", "--constraint", str(constraints)),
            ],
            input=requirement,
            env=network.variables(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode, "it was resolved"
        return done.stderr

    return resolve


def fault(output: str, version: str = "99.0") -> tuple[str, str]:
    """The line that a build ends with, and what is printed above it."""
    command = (
        f'RUN --mount=type=secret,id=ca /compose-environment --pin "{NAME}={version}" --out /out'
    )
    name = f"[custom linux/amd64->arm64 environment 2/3] {command}"
    build = Build()
    build.update(
        {
            "vertexes": [{"digest": "a", "name": name, "error": "exit code: 1"}],
            "logs": [{"vertex": "a", "data": base64.b64encode(output.encode()).decode()}],
        }
    )
    printed = io.StringIO()
    error = bake._fault(build, [], Console(file=printed, width=200))
    assert "\n" not in str(error)
    return str(error), printed.getvalue()


MISSING = "there is no rocketry 99.0 on the package index: ask for a version that there is (--arg)"


@pytest.mark.parametrize("requirement", [NAME, f"{NAME}[fuel]"])
def test_version_that_does_not_exist(resolve: Callable[[str, str], str], requirement: str) -> None:
    assert fault(resolve(requirement, "99.0")) == (MISSING, "")


@pytest.mark.usefixtures("index")
def test_resolvers_paragraphs_that_never_say_so() -> None:
    """What uv 0.13.8 ends with for mlflow[auth] and mlflow==99.0, after fifty lines of versions."""
    said = (
        "             mlflow==3.10.0rc0\n\n"
        "         And because you require rocketry[auth] and rocketry==99.0, we can conclude that"
        " your requirements are unsatisfiable.\n\n"
        "hint: Wheels are required for `rocketry` because building from source is disabled for all"
        " packages (i.e., with `--no-build`)\n"
    )
    assert fault(said) == (MISSING, "")


def test_version_that_exists_and_does_not_fit(resolve: Callable[[str, str], str]) -> None:
    line, above = fault(resolve(NAME, "2.0"), "2.0")
    assert line.startswith("the build failed at custom linux/arm64 environment 2/3: ")
    assert "absent" in above


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("said", ["ERROR: no space", f"you require {NAME}==99.0"])
def test_other_reasons_are_left_as_they_are(said: str) -> None:
    line, above = fault(said)
    assert line.startswith("the build failed at custom")
    assert said in above
