"""Finding the engine as the docker client does, without one."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from seatrial.engine import connection
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give docker a configuration folder of its own, and no variables."""
    folder = tmp_path / "docker"
    folder.mkdir()
    # Set first, so that what the code under test exports is taken back as well.
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Make contexts that a stand-in for the docker command tells of, as the real one does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    known: dict[str, str] = {}

    def add(name: str, url: str) -> None:
        known[name] = url
        cases = "".join(
            f'  "context inspect --format={{{{.Endpoints.docker.Host}}}} {name}") echo {url} ;;\n'
            for name, url in known.items()
        )
        script = folder / "docker"
        script.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}  *) exit 1 ;;\nesac\n')
        script.chmod(0o755)

    return add


def choose(folder: Path, name: str) -> None:
    """Write what `docker context use` writes."""
    (folder / "config.json").write_text(json.dumps({"currentContext": name}))


def test_the_local_socket_is_the_default() -> None:
    found = connection.endpoint()
    assert found == connection.EngineEndpoint("unix:///var/run/docker.sock", "default")
    assert not found.configured


def test_precedence(
    configuration: Path,
    context: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context("chosen", "tcp://chosen.example:2375")
    context("named", "tcp://named.example:2375")
    choose(configuration, "chosen")
    assert str(connection.endpoint()) == "tcp://chosen.example:2375 (context chosen)"
    monkeypatch.setenv("DOCKER_CONTEXT", "named")
    assert str(connection.endpoint()) == "tcp://named.example:2375 (context named)"
    monkeypatch.setenv("DOCKER_HOST", "tcp://host.example:2375")
    assert str(connection.endpoint()) == "tcp://host.example:2375 (DOCKER_HOST)"
    assert connection.endpoint().configured


def test_a_context_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "nowhere")
    with pytest.raises(UserError, match="the docker context 'nowhere' does not exist"):
        connection.endpoint()


def test_the_local_socket_by_another_name_is_still_this_machine() -> None:
    assert not connection.EngineEndpoint("unix:///var/run/docker.sock", "DOCKER_HOST").configured


@pytest.mark.parametrize(
    "url", ["tcp://127.0.0.1:9", "unix:///nowhere/docker.sock", "nonsense://", "tcp://no.invalid:1"]
)
def test_an_engine_that_does_not_answer(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", url)
    with pytest.raises(UserError, match=r"no container engine answers at .* unset DOCKER_HOST"):
        connection.connect()


def test_a_context_is_exported_for_every_other_client(
    configuration: Path, context: Callable[[str, str], None]
) -> None:
    context("chosen", "tcp://127.0.0.1:9")
    choose(configuration, "chosen")
    with pytest.raises(UserError, match="no container engine answers"):
        connection.connect()
    assert os.environ["DOCKER_HOST"] == "tcp://127.0.0.1:9"


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("amd64", ("linux/amd64",)),
        ("linux/arm64", ("linux/arm64",)),
        ("all", ("linux/amd64", "linux/arm64")),
    ],
)
def test_platform_options(option: str, expected: tuple[str, ...]) -> None:
    assert connection.resolve_platforms(option) == expected


@pytest.mark.parametrize("option", ["arm65", "", "linux/", "windows/amd64", "amd64,arm64"])
def test_unknown_platforms(option: str) -> None:
    with pytest.raises(UserError, match="known are native, amd64, arm64, all"):
        connection.resolve_platforms(option)
