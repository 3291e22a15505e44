"""Where a run finds its catalogue, its contracts and its state: here, elsewhere, and nowhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from repository import PROJECT, ROOT, needs_buildx

from seatrial import catalogue, project
from seatrial.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

FOREIGN = ROOT / "tests" / "foreign"


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository of another team, as the working folder."""
    folder = tmp_path / "team"
    shutil.copytree(FOREIGN, folder)
    monkeypatch.chdir(folder)
    return folder


def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the working folder, with a cache beside it."""
    folder = tmp_path / "nowhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_this_repository_is_found_from_its_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (ROOT, ROOT / "docs", ROOT / "docker" / "custom"):
        monkeypatch.chdir(folder)
        assert project.current() == PROJECT
        assert project.builtin() == PROJECT
        assert project.command("build") == "`invoke build`"


@pytest.mark.parametrize("name", project.BAKE_FILES)
def test_the_nearest_catalogue_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    inner = tmp_path / "outer" / "inner"
    (inner / "deep").mkdir(parents=True)
    (tmp_path / "outer" / "docker-bake.hcl").touch()
    (inner / name).parent.mkdir(exist_ok=True)
    (inner / name).touch()
    monkeypatch.chdir(inner / "deep")
    found = project.current()
    assert (found.root, found.bake_file) == (inner, inner / name)
    assert found.state == inner / ".seatrial"
    assert project.command("build") == "`seatrial build`"


def test_a_catalogue_above_the_repository_is_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docker-bake.hcl").touch()
    folder = nowhere(tmp_path, monkeypatch)
    (folder / ".git").mkdir()
    assert project.current().bake_file is None


def test_without_a_catalogue_the_state_is_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = nowhere(tmp_path, monkeypatch)
    kept = project.current().kept("builds")
    assert kept == tmp_path / "cache" / "seatrial" / "builds"
    assert kept.is_dir()
    assert not list(folder.iterdir())


def test_git_ignores_what_is_kept(team: Path) -> None:
    project.current().kept("builds").joinpath("a.json").touch()
    subprocess.run(["git", "init", "--quiet", "."], check=True)
    listed = subprocess.run(
        ["git", "status", "--short", "--ignored=no", ".seatrial"],
        cwd=team,
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout == ""


def test_a_state_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    """As a user who may not write there: root may write anywhere."""
    code = (
        "import os, pathlib\n"
        "from seatrial.project import Project\n"
        "os.geteuid() or os.setuid(65534)\n"
        f"place = pathlib.Path({str(tmp_path)!r})\n"
        "Project(place, None, place / 'state').kept('builds')\n"
    )
    tmp_path.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "UserError: nothing can be kept in" in done.stderr, done.stderr


@needs_buildx
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["build"], "there is no catalogue in {here} or above it"),
        (["build", "--variant", "custom"], "there is no catalogue in {here} or above it"),
        (["catalogue"], "there is no catalogue in {here} or above it"),
        (["test"], "there is no catalogue in {here} or above it"),
        (["test", "--variant", "custom"], "there is no catalogue in {here} or above it"),
        (["test", "--image", "made/up:1", "--contract", "x.toml"], "x.toml: no such contract file"),
        (["lock"], "there are no locks of Seatrial's images in {here}"),
    ],
)
def test_tasks_outside_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], line: str
) -> None:
    folder = nowhere(tmp_path, monkeypatch)
    done = _seatrial(*words)
    assert done.returncode == 2, done.stderr
    (told,) = done.stderr.splitlines()
    assert told.startswith(f"seatrial: {line.format(here=folder)}")
    assert "Traceback" not in done.stdout


@needs_buildx
def test_variants_of_a_foreign_catalogue_have_contracts(team: Path) -> None:
    found = catalogue.load()
    assert list(found.variants) == ["harbour"]
    assert found.default == found.tried == ("harbour",)
    assert found.variants["harbour"].contract == team / "images" / "mlflow" / "contract.toml"
    assert "unrelated" in found.images


@needs_buildx
@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("images/mlflow/contract.toml", None), "no target of the default group has a contract"),
        (
            ("docker-bake.hcl", 'target "harbour" {\n  context = "images/mlflow"\n}'),
            "the target 'harbour' has a contract and no tag",
        ),
        (("docker-bake.hcl", "target {"), "docker-bake.hcl: "),
        (("docker-bake.hcl", ""), "docker-bake.hcl: "),
    ],
)
def test_a_foreign_catalogue_that_can_not_be_tried_is_one_line(
    team: Path, change: tuple[str, str | None], line: str
) -> None:
    name, text = change
    if text is None:
        (team / name).unlink()
    else:
        harbour = 'group "default" {\n  targets = ["harbour"]\n}\n' if "context" in text else ""
        (team / name).write_text(harbour + text)
    with pytest.raises(UserError) as caught:
        catalogue.load()
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@needs_buildx
def test_arguments_are_for_the_catalogue_of_seatrial(team: Path) -> None:
    with pytest.raises(UserError, match=f"--arg sets what .* {team} has another"):
        catalogue.load({"MLFLOW_VERSION": "3.0.0"})


def test_a_package_out_of_a_checkout_has_services_beside_it(team: Path) -> None:
    assert project.current().root == team
    assert project.builtin() == PROJECT


def _seatrial(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a task as the installed command does, with the library on a path."""
    code = (
        "import sys; from seatrial.tasks import program; program.run(['seatrial', *sys.argv[1:]])"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "DOCKER_HOST": "unix:///nowhere.sock"},
        capture_output=True,
        text=True,
        check=False,
    )
