"""What a run has left on the machine, or taken from it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from seatrial import scratch
from seatrial.stack.labels import OWNER_LABEL, SESSION_LABEL
from seatrial.stack.owner import Owner
from seatrial.trial import leftovers

if TYPE_CHECKING:
    from pathlib import Path

ALIVE = str(Owner.this_process())
GONE = str(replace(Owner.this_process(), started="1"))


@dataclass
class Thing:
    """A container, network, volume or image."""

    name: str
    owner: str = ""
    session: str = "abcd"
    tags: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Is as good as the name."""
        return f"id of {self.name}"

    @property
    def labels(self) -> dict[str, str]:
        """Label of its session, if it has one."""
        return {SESSION_LABEL: self.session, OWNER_LABEL: self.owner} if self.owner else {}

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes as the engine describes them."""
        return {"Labels": self.labels or None}


class Things(list[Thing]):
    """A collection of the engine's client."""

    def list(self, **_: object) -> list[Thing]:
        """List all."""
        return self


@dataclass
class Engine:
    """Client with as much as is used."""

    containers: Things = field(default_factory=Things)
    networks: Things = field(default_factory=Things)
    volumes: Things = field(default_factory=Things)
    images: Things = field(default_factory=Things)


def of_engine(engine: Engine, *, abandoned: bool) -> leftovers.Snapshot:
    client: Any = engine
    return leftovers._of_engine(client, abandoned=abandoned)


def left(before: Engine, after: Engine) -> list[str]:
    changes = leftovers.compare(
        of_engine(before, abandoned=False), of_engine(after, abandoned=True)
    )
    return [str(change) for change in changes]


def test_same_machine_has_no_difference() -> None:
    engine = Engine(Things([Thing("a")]), Things([Thing("b")]), Things([Thing("c")]))
    assert left(engine, engine) == []


@pytest.mark.parametrize("owner", ["", GONE], ids=["without a session", "ended session"])
@pytest.mark.parametrize("kind", ["container", "network", "volume"])
def test_what_is_left_is_named(kind: str, owner: str) -> None:
    after = Engine(**{f"{kind}s": Things([Thing("thing", owner)])})
    [line] = left(Engine(), after)
    assert line.startswith(f"left behind: {kind} thing")


@pytest.mark.parametrize(
    "tag", ["python:3.13.5-slim", "other:latest", "seatrial-trial/built:abcd-main-1"]
)
def test_images_that_are_left_are_named(tag: str) -> None:
    [line] = left(Engine(), Engine(images=Things([Thing("image", tags=[tag])])))
    assert line == f"left behind: image {tag} (id of image)"


def test_image_without_a_name_is_named_by_its_id() -> None:
    [line] = left(Engine(), Engine(images=Things([Thing("image")])))
    assert line == "left behind: image id of image (id of image)"


def test_image_that_was_replaced_or_removed_is_named() -> None:
    one, other = (
        Thing("one", tags=["python:3.13.5-slim"]),
        Thing("other", tags=["python:3.13.5-slim"]),
    )
    assert left(Engine(images=Things([one])), Engine(images=Things([other]))) == [
        "changed: image python:3.13.5-slim (id of other)"
    ]
    assert left(Engine(images=Things([one])), Engine()) == [
        "gone: image python:3.13.5-slim (id of one)"
    ]


def test_runs_beside_this_one_are_left_out() -> None:
    beside = Engine(
        Things([Thing("container", ALIVE)]),
        Things([Thing("network", ALIVE)]),
        images=Things([Thing("image", tags=["seatrial-trial/built:abcd-main-1"])]),
    )
    assert left(Engine(), beside) == []
    assert left(beside, Engine()) == []


def test_what_a_killed_run_had_left_may_go() -> None:
    assert left(Engine(Things([Thing("container", GONE)])), Engine()) == []


def test_files_are_listed_without_those_that_are_kept(tmp_path: Path) -> None:
    for name in ("a/b/c", "a/__pycache__/d", ".seatrial/e", "f"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = leftovers.files((tmp_path,), without=(tmp_path / "a" / "b",), names=leftovers.KEPT)
    assert {name for _, name in found} == {str(tmp_path / "a"), str(tmp_path / "f")}


def test_folder_is_named_once(tmp_path: Path) -> None:
    before = leftovers.files((tmp_path,))
    for name in ("new/a/b", "new/c", "new-one", "other"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    after = leftovers.files((tmp_path,))
    named = [f"{tmp_path}/{name}" for name in ("new", "new-one", "other")]
    assert [str(one) for one in leftovers.compare(before, after)] == [
        f"left behind: file {name}" for name in named
    ]
    assert [str(one) for one in leftovers.compare(after, before)] == [
        f"gone: file {name}" for name in named
    ]


def test_folder_that_a_process_holds_is_its_own(tmp_path: Path) -> None:
    with scratch.folder(tmp_path) as held:
        (held / "file").touch()
        assert leftovers.files((tmp_path,)) == {}


def test_process_that_goes_on_is_named() -> None:
    code = "print('ready', flush=True); input()"
    environment = {**os.environ, leftovers.MARK: "one"}
    with subprocess.Popen(
        [sys.executable, "-c", code, "marked"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        found = leftovers.processes("one")
        assert not leftovers.processes("another")
        process.communicate(b"\n")
    assert [name for _, name in found] == [str(process.pid)]
    assert "marked" in found["process", str(process.pid)]
    assert not leftovers.processes("one")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("image front/*", True), ("image *", True), ("container *", False), ("image front", False)],
)
def test_what_is_ignored_is_somebody_else_s(pattern: str, expected: bool) -> None:
    assert leftovers._matches("image front/custom:latest (sha256:1)", [pattern]) is expected
