"""What a run asks the engine for, and when: nothing before a test does, and nothing twice."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from repository import ROOT

pytest_plugins = ["pytester"]

CONTRACT = """
description = "made up"
[server]
capabilities = ["tracking", "artifacts"]
databases = ["sqlite", "postgresql"]
artifact_stores = ["s3", "file"]
"""
TESTS = """
def test_arithmetic(): pass
def test_image(seatrial_image): assert seatrial_image.configuration.image_id == "sha256:1"
def test_embedded(seatrial_embedded_server): pass
def test_main(seatrial_server): assert seatrial_server.settings.name == "proxied"
def test_main_again(seatrial_server): assert seatrial_server.settings.name == "proxied"
def test_own(seatrial_launch, seatrial_main_settings): seatrial_launch(seatrial_main_settings)
def test_services(seatrial_services): assert "postgresql" in seatrial_services.addresses
"""
PLUGINS = (
    *("-p", "seatrial.trial.plugin", "-p", "engine_stand_in", "-p", "no:cacheprovider"),
    *("--contract", "contract.toml"),
)
LIMIT = 60
"""Seconds in which an interrupted run has to end."""
EACH_ONE = {
    "create network": 1,
    "inspect made/up:1": 1,
    "start services": 1,
    "start embedded": 1,
    "remove session": 1,
}


class Project:
    """Tests that use the fixtures, on an engine that only notes what is asked for."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pytester = pytester
        self._log = pytester.path / "engine.log"
        monkeypatch.setenv("LOG", str(self._log))
        monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
        pytester.makefile(".toml", contract=CONTRACT)
        pytester.makepyfile(test_mine=TESTS)

    def run(self, *words: str, image: str = "made/up:1") -> pytest.RunResult:
        """Run the tests on an image."""
        return self._pytester.runpytest_subprocess(*PLUGINS, "--image", image, *words)

    def end_at(self, request: str, *words: str) -> int:
        """Send SIGTERM to a run when it has asked the engine for something; its exit code."""
        command = [sys.executable, "-m", "pytest", *PLUGINS, "--image", "made/up:1", *words]
        with subprocess.Popen(command, cwd=self._pytester.path) as running:
            while running.poll() is None and not self.asked[request]:
                time.sleep(0.05)
            running.terminate()
            return running.wait(LIMIT)

    @property
    def connections(self) -> int:
        """How often a process connected to the engine."""
        return self._lines().count("connect")

    @property
    def asked(self) -> Counter[str]:
        """How often the engine was asked for what else."""
        return Counter(line for line in self._lines() if line != "connect")

    def _lines(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Some tests of a repository of its own."""
    return Project(pytester, monkeypatch)


def test_listing_asks_for_nothing(project: Project) -> None:
    assert project.run("--collect-only").ret == pytest.ExitCode.OK
    assert not project.asked


@pytest.mark.parametrize("workers", ["0", "2"])
def test_tests_without_an_image_ask_for_nothing(project: Project, workers: str) -> None:
    result = project.run("-k", "arithmetic", "-n", workers)
    result.assert_outcomes(passed=1, deselected=0 if workers == "2" else 6)
    assert not project.asked


def test_image_is_looked_up_without_a_server(project: Project) -> None:
    project.run("-k", "image").assert_outcomes(passed=1, deselected=6)
    assert project.asked == {"create network": 1, "inspect made/up:1": 1, "remove session": 1}


def test_server_on_sqlite_needs_no_services(project: Project) -> None:
    project.run("-k", "embedded").assert_outcomes(passed=1, deselected=6)
    assert project.asked == {each: 1 for each in EACH_ONE if each != "start services"}


def test_everything_starts_once(project: Project) -> None:
    project.run().assert_outcomes(passed=7)
    assert project.asked == {**EACH_ONE, "start proxied": 2}


def test_workers_share_what_one_of_them_has_started(project: Project) -> None:
    project.run("-n", "2", "--dist", "loadgroup").assert_outcomes(passed=7)
    assert project.asked == {**EACH_ONE, "start proxied": 2}


def test_worker_connects_before_it_starts_a_container(
    project: Project, pytester: pytest.Pytester
) -> None:
    """It needs the session's labels for that."""
    project.run("-n", "1", "-k", "arithmetic or image").assert_outcomes(passed=2)
    assert project.connections == 1, "a worker that starts nothing needs no connection"
    pytester.makepyfile(test_mine="def test_labels(seatrial_trial): seatrial_trial.session.labels")
    project.run("-n", "1").assert_outcomes(passed=1)
    assert project.connections == 3


@pytest.mark.parametrize("workers", ["0", "2"])
def test_missing_image_is_one_line_before_any_test(project: Project, workers: str) -> None:
    result = project.run("-n", workers, image="made/up:2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [
        "ERROR: image 'made/up:2' can't be pulled"
    ]
    assert "passed" not in result.stdout.str()
    assert project.asked["remove session"] == 1


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("embedded", "made/up:1 (linux/amd64) does not run as an MLflow server with `server`: *"),
        ("services", "a service did not start: services exited with code 1"),
    ],
)
def test_what_every_test_needs_ends_the_run(
    project: Project, monkeypatch: pytest.MonkeyPatch, workers: str, broken: str, reason: str
) -> None:
    monkeypatch.setenv("BROKEN", broken)
    result = project.run("-n", workers, "--dist", "loadgroup")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"*Interrupted: {reason}*"])
    result.stdout.fnmatch_lines(["the last line"])
    result.stderr.fnmatch_lines([f"ERROR: {reason}"])
    assert "Traceback" not in result.stdout.str()
    assert project.asked[f"start {broken}"] == 1
    assert project.asked["remove session"] == 1


def test_broken_start_is_no_failed_test(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever reads the exit code would take an image that is no server for a broken one."""
    monkeypatch.setenv("BROKEN", "embedded")
    assert project.run("--exitfirst", "-k", "main").ret == pytest.ExitCode.INTERRUPTED


def test_plainer_server_where_the_fullest_does_not_start(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN", "proxied")
    project.run("-k", "main").assert_outcomes(failed=2, deselected=5)
    assert project.asked["start proxied"] == 1
    assert project.asked["start proxied-files"] == 1


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("hanging", ["services", "proxied"])
def test_sigterm_ends_the_run_and_removes_everything(
    project: Project, monkeypatch: pytest.MonkeyPatch, hanging: str, workers: str
) -> None:
    """While a server starts as well: its container goes, and with it the wait."""
    monkeypatch.setenv("HANGING", hanging)
    code = project.end_at(f"start {hanging}", "-k", "main", "-n", workers)
    assert code == pytest.ExitCode.INTERRUPTED
    assert project.asked["remove session"] == 1


def test_only_this_user_reads_what_the_processes_share(
    project: Project, pytester: pytest.Pytester
) -> None:
    """The passwords of the services are among it."""
    pytester.makepyfile(
        test_mine="def test_place(seatrial_services, seatrial_trial):\n"
        "    assert seatrial_trial.shared.folder.stat().st_mode & 0o777 == 0o700\n"
    )
    project.run("-n", "1").assert_outcomes(passed=1)


def test_nothing_of_the_run_stays(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(str(project._log)).parent / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    project.run("-n", "2", "-k", "image").assert_outcomes(passed=1)
    assert list(place.iterdir()) == []
