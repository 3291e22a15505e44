"""What is read from the machine, and the table that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from seatrial.engine import probe, report
from seatrial.engine.facts import Configuration
from seatrial.engine.plan import Check, CheckState

if TYPE_CHECKING:
    from pathlib import Path


def test_facts_can_be_gathered_without_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    facts = probe.facts(hosts=())
    assert facts.engine is None
    assert facts.silence.startswith("no container engine answers at unix:///nowhere/docker.sock")
    assert facts.platform in {"linux/amd64", "linux/arm64"}
    assert facts.registries == {}


def test_configuration(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    assert probe.configuration(path).settings is None
    assert not probe.configuration(path).fault
    path.write_text('{"features": {"containerd-snapshotter": true}}')
    assert probe.configuration(path).settings == {"features": {"containerd-snapshotter": True}}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "is not valid JSON"),
        ("[]", "is not a JSON object"),
        ("{} {}", "is not valid JSON"),
        ("\udcff{}", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
    ],
    ids=["open", "list", "two", "no text", "deep"],
)
def test_configuration_that_no_daemon_reads(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "daemon.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    found = probe.configuration(path)
    assert found.settings is None
    assert fault in found.fault
    assert "\n" not in found.fault


@pytest.mark.parametrize("text", ["", " \n", "{}", "\ufeff{}"])
def test_configuration_that_says_nothing_is_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(text, encoding="utf-8")
    assert probe.configuration(path) == Configuration(path, {})


def test_configuration_by_a_symbolic_link(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.symlink_to(tmp_path / "elsewhere.json")
    assert probe.configuration(path).fault == "is a symbolic link to nothing"
    (tmp_path / "elsewhere.json").write_text('{"debug": true}')
    assert probe.configuration(path) == Configuration(path, {"debug": True})


def test_folder_in_the_place_of_a_configuration(tmp_path: Path) -> None:
    assert probe.configuration(tmp_path).fault == "can't be read: Is a directory"


def test_the_table_shows_mends_only_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    facts = probe.facts(hosts=())
    fine = Check("buildx", CheckState.FINE, "0.13.1")
    fault = Check("compose", CheckState.FAULT, "missing [really]", "install docker-compose")
    console = Console(width=100)
    with console.capture() as first:
        console.print(report.table(facts, [fine]))
    assert "how to mend it" not in first.get()
    with console.capture() as second:
        console.print(report.table(facts, [fine, fault]))
    assert "missing [really]" in second.get()
    assert "install docker-compose" in second.get()
