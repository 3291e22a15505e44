"""Locks of models: the program that the container runs, run here on the package index itself."""

from __future__ import annotations

import os
import subprocess
import zipfile
from typing import TYPE_CHECKING

import mlflow
import pytest
from repository import ROOT

from seatrial.build.builder import Builder
from seatrial.errors import UserError
from seatrial.model import locking, requirements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

AMD, ARM = "linux/amd64", "linux/arm64"
RESOLVE = ROOT / "docker" / "model-lock" / "resolve"
RESOLVER = locking.Resolver(Builder("default", "docker", AMD), None)


@pytest.fixture(autouse=True)
def resolving_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run the container's program without a container."""
    tools = os.pathsep.join((str(ROOT / "docker" / "bases" / "tools"), os.environ["PATH"]))

    def run(
        wanted: requirements.Requirements,
        architectures: Sequence[str],
        lists: Path,
        out: Path,
        _: locking.Resolver,
        *,
        build: bool,
    ) -> dict[str, Path]:
        assert not build, "sources are built by an engine"
        for each in architectures:
            subprocess.run(
                [
                    *map(str, (RESOLVE, lists, tmp_path / "no-wheels", out / each)),
                    *("--architecture", each, "--python", "3.13"),
                    *(("--prereleases",) if wanted.prereleases else ()),
                ],
                check=True,
                env={**os.environ, "PATH": tools},
            )
        return {each: out / each for each in architectures}

    monkeypatch.setattr(locking, "_run", run)


def lock(
    folder: Path,
    target: Path,
    *lines: str,
    platforms: Sequence[str] = (AMD,),
    build_sources: bool = False,
) -> bool:
    folder.mkdir(exist_ok=True)
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lines))
    return locking.lock(
        requirements.read(folder, ("https://packages.example",)),
        mlflow.__version__,
        platforms,
        target,
        RESOLVER,
        build_sources=build_sources,
    )


def locked(target: Path, architecture: str = "amd64") -> str:
    return "\n" + (target / architecture / "requirements.txt").read_text(encoding="utf-8")


def test_lock_holds_the_requirements_and_the_server_for_each_platform(tmp_path: Path) -> None:
    target = tmp_path / "lists"
    wanted = ("mlflow==3.17.2", "six==1.16.0")
    assert lock(tmp_path / "m", target, *wanted, platforms=(AMD, ARM)) is False
    for architecture in ("amd64", "arm64"):
        text = locked(target, architecture)
        for pin in ("six==1.16.0", "mlflow==3.17.2", "uvloop==", "prometheus-client=="):
            assert f"\n{pin}" in text, f"{architecture}: no {pin}"
        assert "--hash=sha256:" in text
        assert "://" not in text, "an address is recorded"
        assert (target / architecture / "sources.txt").read_text(encoding="utf-8") == ""


def wheel(folder: Path, *requires: str) -> Path:
    """Make a wheel that requires something."""
    path = folder / "own_tool-1.0-py3-none-any.whl"
    described = "own_tool-1.0.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("own_tool.py", "VALUE = 7\n")
        metadata = f"Metadata-Version: 2.1\nName: own_tool\nVersion: 1.0\n{needs}"
        archive.writestr(f"{described}/METADATA", metadata)
        archive.writestr(f"{described}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{described}/RECORD", "")
    return path


def test_lock_holds_the_wheels_of_the_model_and_what_they_require(tmp_path: Path) -> None:
    """They are locked by their hash, and again when their content is another one."""
    folder, target = tmp_path / "m", tmp_path / "lists"
    folder.mkdir()
    made = wheel(folder, "six==1.16.0")
    lines = ("mlflow==3.17.2", f"./{made.name}")

    assert lock(folder, target, *lines) is False
    first = locked(target)
    wheel(folder, "six==1.17.0")
    lock(folder, target, *lines)

    second = locked(target)
    assert f"\n${{LISTS}}/own/{made.name} \\\n    --hash=sha256:" in first
    assert "\nsix==1.16.0" in first
    assert "\nsix==1.17.0" in second
    assert (target / "own" / made.name).read_bytes() == made.read_bytes()
    lock(folder, target, "mlflow==3.17.2")
    assert not (target / "own").exists()
    assert "own" not in locked(target)


def test_lock_keeps_what_the_one_before_said(tmp_path: Path) -> None:
    target = tmp_path / "lists"
    lock(tmp_path / "m", target, "mlflow==3.17.2", "six==1.16.0")
    lock(tmp_path / "m", target, "mlflow==3.17.2", "six")
    assert "\nsix==1.16.0" in locked(target), "a newer version took its place, unasked"


def test_lock_is_made_once_for_the_same_requirements(tmp_path: Path) -> None:
    """Without a look at the index, which may have newer versions by now."""
    folder, target = tmp_path / "m", tmp_path / "lists"
    lock(folder, target, "mlflow==3.17.2", "six")
    file = target / "amd64" / "requirements.txt"
    file.write_text("six==1.0\n", encoding="utf-8")
    lock(folder, target, "mlflow==3.17.2", "six  # the same")
    assert file.read_text(encoding="utf-8") == "six==1.0\n"
    lock(folder, target, "mlflow==3.17.2", "six>1.0")
    assert "\nuvloop==" in locked(target)


def test_lock_is_made_anew_for_changed_constraints(tmp_path: Path) -> None:
    folder, target = tmp_path / "m", tmp_path / "lists"
    folder.mkdir()
    for version in ("1.15.0", "1.16.0"):
        (folder / "constraints.txt").write_text(f"six=={version}\n", encoding="utf-8")
        lock(folder, target, "mlflow==3.17.2", "six", "-c constraints.txt")
        assert f"\nsix=={version}" in locked(target)


@pytest.mark.parametrize("name", ["mlflow", "mlflow-skinny"])
def test_mlflow_that_cannot_be_served_is_refused(name: str, tmp_path: Path) -> None:
    message = f"requires {name}.* 2.22.0 on {AMD}, and the image needs MLflow 3 or newer: log the"
    for time in ("first", "kept"):
        with pytest.raises(UserError, match=message) as caught:
            lock(tmp_path / "m", tmp_path / "lists", f"{name}==2.22.0")
        assert "\n" not in str(caught.value), time


def test_mlflow_is_added_where_the_model_does_not_ask_for_it(tmp_path: Path) -> None:
    lock(tmp_path / "m", tmp_path / "lists", "six")
    assert f"\nmlflow=={mlflow.__version__}" in locked(tmp_path / "lists")


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        ("seatrial-has-no-such-thing==1", "seatrial-has-no-such-thing was not found"),
        ("six==999", "there is no version of six==999"),
        ("pyspark==3.5.0", "pyspark==3.5.0 has no usable wheels.*--allow-emulated-build"),
        ("pyspark", "versions of pyspark have no usable wheels.*--allow-emulated-build"),
        ("six==" + "9" * 900, "cannot be met"),
    ],
)
def test_unmet_requirement_is_one_line(requirement: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"cannot be met on {ARM}: .*{message}|{message}") as caught:
        lock(tmp_path / "m", tmp_path / "lists", "mlflow==3.17.2", requirement, platforms=(ARM,))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_archive_by_its_address_is_a_source(tmp_path: Path) -> None:
    line = "own @ https://packages.example/own-1.0.tar.gz"
    with pytest.raises(UserError, match="which is no wheel: --allow-emulated-build builds it"):
        lock(tmp_path / "m", tmp_path / "lists", line)


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("Because docopt==0.6.2 has no usable wheels and", "docopt==0.6.2"),
        ("Because all versions of crcmod have no usable wheels and", "crcmod"),
        (
            "a==1 depends on b==2.0.post1 and b==2.0.post1 has no wheels with a matching",
            "b==2.0.post1",
        ),
        ("Because there is no version of six==999", None),
    ],
)
def test_what_has_no_wheel_is_known_by_the_resolver_s_words(fault: str, found: str | None) -> None:
    assert locking._lacking(fault) == found


def test_what_was_built_is_listed_by_its_source(tmp_path: Path) -> None:
    out, target = tmp_path / "out", tmp_path / "target"
    out.mkdir()
    target.mkdir()
    hashes = " \\\n    --hash=sha256:" + "0" * 64
    (out / "requirements.txt").write_text(f"Docopt==0.6.2{hashes}\nsix==1.16.0{hashes}\n")
    built = f"docopt==0.6.2 --hash=sha256:{'1' * 64}\n"
    (out / "sources.txt").write_text(built)
    locking._take(out, target)
    assert (target / "requirements.txt").read_text() == f"six==1.16.0{hashes}\n"
    assert (target / "sources.txt").read_text() == built


def test_lists_are_for_nobody_else(tmp_path: Path) -> None:
    """The address of an index may hold a password."""
    before = os.umask(0)
    try:
        lock(tmp_path / "m", tmp_path / "lists", "mlflow==3.17.2")
    finally:
        os.umask(before)
    assert (tmp_path / "lists").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "lists" / "index.txt").stat().st_mode & 0o777 == 0o600
