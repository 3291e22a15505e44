"""What is read from the machine, and the table that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from seatrial.engine import probe, report
from seatrial.engine.plan import Finding, State

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
    [("{", "is not valid JSON"), ("[]", "is not a JSON object"), ("", "is not valid JSON")],
)
def test_configuration_that_no_daemon_reads(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(text)
    assert probe.configuration(path).settings is None
    assert fault in probe.configuration(path).fault


def test_the_table_shows_mends_only_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    facts = probe.facts(hosts=())
    fine = Finding("buildx", State.FINE, "0.13.1")
    fault = Finding("compose", State.FAULT, "missing [really]", "install docker-compose")
    console = Console(width=100)
    with console.capture() as first:
        console.print(report.table(facts, [fine]))
    assert "how to mend it" not in first.get()
    with console.capture() as second:
        console.print(report.table(facts, [fine, fault]))
    assert "missing [really]" in second.get()
    assert "install docker-compose" in second.get()
