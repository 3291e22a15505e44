"""MLflow's own build: what it begins with, and what is said when it fails."""

from __future__ import annotations

import configparser
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from docker.errors import ImageNotFound
from rich.console import Console

from seatrial.engine import connection, registries
from seatrial.errors import UserError
from seatrial.model import build_docker

REFERENCE = "python:3.13.5-slim"
DIGEST = "sha256:" + "1" * 64
STAND_IN = "seatrial-trial/python-slim:abcd-stand-in"

FAILED_STEP = f"""\
#5 [2/8] RUN pip install mlflow==0.0.1
#5 1.207 ERROR: Could not find a version that satisfies the requirement mlflow==0.0.1
#5 1.208 ERROR: No matching distribution found for mlflow==0.0.1
#5 ERROR: process "/bin/sh -c pip install mlflow==0.0.1" did not complete: exit code: 1
{build_docker._RULE}
 > [2/8] RUN pip install mlflow==0.0.1:
1.207 ERROR: Could not find a version that satisfies the requirement mlflow==0.0.1
1.208 ERROR: No matching distribution found for mlflow==0.0.1
{build_docker._RULE}
Dockerfile:3
--------------------
   3 | >>> RUN pip install mlflow==0.0.1
--------------------
ERROR: failed to solve: process "/bin/sh -c pip install mlflow==0.0.1" did not complete
Traceback (most recent call last):
RuntimeError: Docker build failed.
"""


@dataclass
class Held:
    """An image in the engine's store."""

    labels: dict[str, str]
    id: str = DIGEST
    tagged: list[str] = field(default_factory=list)

    def tag(self, repository: str, tag: str) -> None:
        """Note the name."""
        self.tagged.append(f"{repository}:{tag}")


@dataclass
class Engine:
    """Client with as much as is used."""

    held: dict[str, Held] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)

    @property
    def images(self) -> Engine:
        """The store."""
        return self

    def get(self, reference: str) -> Held:
        """Look an image up."""
        if reference not in self.held:
            raise ImageNotFound(reference)
        return self.held[reference]

    def remove(self, reference: str, *, force: bool) -> None:
        """Note what goes."""
        assert force
        self.removed.append(reference)

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class World:
    """An engine, and what surrounds it."""

    engine: Engine = field(default_factory=Engine)
    registry: str | None = None
    made: Held = field(default_factory=lambda: Held({build_docker._STAND_IN_LABEL: "true"}))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """No registry, an empty engine, and a stand-in with Python 3.13.5."""
    there = World()
    monkeypatch.setattr(build_docker, "_machine", lambda: tmp_path / "machine")
    monkeypatch.setattr(registries, "resolve", lambda _: there.registry)
    monkeypatch.setattr(connection, "connect", lambda: there.engine)
    monkeypatch.setattr(build_docker, "_make", lambda *_: there.made)
    monkeypatch.setattr(build_docker, "_python_of", lambda _: "3.13.5")
    return there


def find(version: str = "3.13.5") -> build_docker.Base:
    return build_docker.find_base(version, STAND_IN, Console(quiet=True))


def test_stand_in_has_a_name_of_its_own_where_no_registry_answers(world: World) -> None:
    base = find()
    assert base == build_docker.Base(REFERENCE, DIGEST, STAND_IN)
    assert base.options == ("--build-context", f"{REFERENCE}=docker-image://{STAND_IN}")
    assert not world.made.tagged


def test_stand_in_of_the_session_is_made_once(world: World) -> None:
    world.engine.held[STAND_IN] = Held(
        {build_docker._STAND_IN_LABEL: "true"}, id="sha256:made before"
    )
    assert find().digest == "sha256:made before"


@pytest.mark.usefixtures("world")
def test_stand_in_with_another_python_is_none() -> None:
    with pytest.raises(build_docker.NoBaseError) as fault:
        find("3.11.2")
    assert "logged with Python 3.11.2" in str(fault.value)
    assert "3.13.5" in str(fault.value)
    assert "\n" not in str(fault.value)


def test_nothing_is_made_where_a_registry_answers(world: World) -> None:
    world.registry = f"{REFERENCE}@{DIGEST}"
    base = find()
    assert base == build_docker.Base(REFERENCE, DIGEST)
    assert base.options == ()


@pytest.mark.parametrize("registry", [None, f"{REFERENCE}@{DIGEST}"])
def test_stand_in_that_has_the_official_name_loses_it(world: World, registry: str | None) -> None:
    world.registry = registry
    world.engine.held[REFERENCE] = Held({build_docker._STAND_IN_LABEL: "true"})
    assert bool(find().stand_in) is (registry is None)
    assert world.engine.removed == [REFERENCE]


@pytest.mark.parametrize("registry", [None, f"{REFERENCE}@{DIGEST}"])
def test_official_image_that_is_there_is_left_alone(world: World, registry: str | None) -> None:
    world.registry = registry
    world.engine.held[REFERENCE] = Held({}, id="sha256:official")
    assert not find().stand_in
    assert not world.engine.removed


def test_settings_hold_authorities_and_indexes(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("authorities")
    folder = tmp_path / "machine" / "etc"
    indexes = {"UV_DEFAULT_INDEX": "x", "PIP_INDEX_URL": "https://index.example/50%25/simple"}
    build_docker.write_settings(folder, bundle, indexes)
    written = configparser.RawConfigParser()
    written.read(folder / "pip.conf")
    assert dict(written["global"]) == {
        "cert": "/etc/ssl/host-authorities.pem",
        "index-url": "https://index.example/50%25/simple",
    }
    assert (folder / "ssl" / "host-authorities.pem").read_text() == "authorities"


def test_settings_are_empty_where_the_machine_has_none(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "pip.conf").write_text("of yesterday")
    build_docker.write_settings(folder, None, {})
    assert not list(folder.iterdir())


FULL_DISK = """\
#11 1.539 Successfully installed gevent-26.9.0
#11 DONE 1.9s
#14 exporting to image
#14 exporting layers 21.4s done
#14 ERROR: failed to extract layer: no space left
------
 > exporting to image:
------
ERROR: failed to solve: failed to extract layer: no space left
"""


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            FAILED_STEP,
            "mlflow==0.0.1: ERROR: No matching distribution found for mlflow==0.0.1",
        ),
        (
            FULL_DISK,
            "exporting to image: ERROR: failed to solve: failed to extract layer: no space left",
        ),
        (
            "ERROR: failed to solve: no such image\nRuntimeError: Docker build failed.",
            "ERROR: failed to solve: no such image",
        ),
        ("Traceback:\nMlflowException: No versions of model 'm'\n", "No versions of model 'm'"),
        ("", ""),
    ],
)
def test_cause_is_one_line(said: str, expected: str) -> None:
    found = build_docker.cause(said.splitlines())
    assert found.endswith(expected)
    assert "\n" not in found


def test_failure_has_one_line_and_the_last_ones_as_notes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = "print('first'); print('Error: there is no such model'); raise SystemExit(3)"
    with pytest.raises(UserError) as fault:
        build_docker._run([sys.executable, "-c", script], {}, "mlflow models build-docker")
    assert str(fault.value) == "mlflow models build-docker: Error: there is no such model"
    assert fault.value.__notes__ == ["first\nError: there is no such model"]
    assert capsys.readouterr().out == "first\nError: there is no such model\n"


@pytest.mark.parametrize(
    "base", [build_docker.Base(REFERENCE, DIGEST), build_docker.Base(REFERENCE, DIGEST, STAND_IN)]
)
def test_runs_what_a_user_runs(base: build_docker.Base, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def run(command: list[str], variables: dict[str, str], _: str) -> None:
        found = shutil.which("docker", path=variables.get("PATH", ""))
        ran.append((command, variables, Path(found).read_text() if found else ""))

    monkeypatch.setattr(build_docker, "_run", run)
    build_docker.build("models:/m@champion", "m:1", "http://localhost:5000", base)
    [(command, variables, wrapper)] = ran
    assert command[1:] == [
        *("-m", "mlflow", "models", "build-docker", "-m", "models:/m@champion"),
        *("-n", "m:1", "--env-manager", "local"),
    ]
    assert variables["MLFLOW_TRACKING_URI"] == "http://localhost:5000"
    assert (f"--build-context {REFERENCE}=docker-image://{STAND_IN}" in wrapper) is bool(
        base.stand_in
    )
