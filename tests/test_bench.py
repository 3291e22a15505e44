"""What the benchmarks make of their measurements: ratios, bars, tables, files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from repository import BAKE_FILE
from rich.console import Console

from bench import machine, measuring, processor, report_table, suites, trial_session
from bench.baking import ANEW, information_folders
from bench.figures import (
    CPU_SECONDS,
    SECONDS,
    Bar,
    Figure,
    Sample,
    SuiteReport,
    median_cpu,
    median_seconds,
)
from bench.machine import MeasuredMachine
from bench.processor import Times
from seatrial.errors import UserError
from seatrial.stack.labels import OWNER_LABEL

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = MeasuredMachine(
    processor="A processor",
    cores=2,
    memory=8 * 2**30,
    kernel="6.1",
    engine="26.1",
    buildx="0.13",
    buildkit="unknown",
    emulator="qemu 10",
    python="3.11",
    commit="0123456789abcdef-dirty",
)
FIGURE = Figure("composed", CPU_SECONDS, 20.0, "emulated", 500.0, Bar(ratio=10.0), "a note")
SAMPLE = Sample("a run", 12.5, Times(1.0, 2.0, 3.0, 7.0), disturbed=True, detail={"tests": 4})
REPORT = SuiteReport(
    suite="build",
    started="2026-01-02T03:04:05+00:00",
    machine=MACHINE,
    options={"cold": False},
    figures=(FIGURE, Figure("plain", SECONDS, 3.0, "bake", 1.5)),
    samples=(SAMPLE, Sample("another", 1.0)),
)


def test_ratio_says_how_many_times_less() -> None:
    assert FIGURE.ratio == 25.0
    assert replace(FIGURE, value=0.0).ratio is None


@pytest.mark.parametrize(
    ("bar", "value", "met"),
    [
        (None, 20.0, None),
        (Bar(ratio=10.0), 50.0, True),
        (Bar(ratio=10.0), 51.0, False),
        (Bar(ratio=10.0), 0.0, False),
        (Bar(value=20.0), 20.0, True),
        (Bar(value=20.0), 20.1, False),
    ],
)
def test_bar_is_met(bar: Bar | None, value: float, met: bool | None) -> None:
    assert replace(FIGURE, bar=bar, value=value).met is met


def test_report_survives_json() -> None:
    assert SuiteReport.from_json(REPORT.as_json()) == REPORT


def test_report_holds_what_follows_from_its_values() -> None:
    document = json.loads(REPORT.as_json())
    assert [(figure["ratio"], figure["met"]) for figure in document["figures"]] == [
        (25.0, True),
        (0.5, None),
    ]
    assert document["machine"]["processor"] == "A processor"
    assert document["samples"][0]["times"]["daemon"] == 2.0


@pytest.mark.parametrize("text", ["no JSON", "{}", "[]", json.dumps({"suite": "build"})])
def test_something_else_is_no_report(text: str) -> None:
    with pytest.raises(UserError, match="no report"):
        SuiteReport.from_json(text)


def test_report_is_named_after_suite_and_moment(tmp_path: Path) -> None:
    path = replace(REPORT, started="2026-01-02T04:04:05+01:00").write(tmp_path / "new")
    assert path.name == "build-2026-01-02T030405Z.json"
    assert SuiteReport.from_json(path.read_text(encoding="utf-8")).figures == REPORT.figures


def test_median_ignores_one_slow_run() -> None:
    samples = [Sample("", seconds, Times(seconds, 1.0, 0.0, 9.0)) for seconds in (3.0, 99.0, 4.0)]
    assert median_seconds(samples) == 4.0
    assert median_cpu(samples) == Times(4.0, 1.0, 0.0, 9.0)


def test_times_between_two_readings() -> None:
    used = Times(15.0, 7.0, 1.5, 60.0).since(Times(5.0, 6.0, 1.0, 20.0))
    assert used == Times(10.0, 1.0, 0.5, 40.0)
    assert used.total == 11.5
    # A containerd that was restarted counts from 0 again.
    assert Times(5.0, 0.0, 0.0, 0.0).since(Times(0.0, 3.0, 0.0, 0.0)).daemon == 0.0


def shown(report: SuiteReport) -> str:
    console = Console(width=160, record=True)
    report_table.show(report, console)
    return console.export_text()


def test_table_states_ratios_and_bars() -> None:
    missed = replace(FIGURE, name="slow", value=100.0, bar=Bar(value=20.0))
    text = shown(replace(REPORT, figures=(*REPORT.figures, missed)))
    assert "A processor, 2 cores, 8 GiB" in text
    assert "commit 0123456789ab-dirty" in text
    lines = {line.split()[1]: line for line in text.splitlines() if line.startswith("│")}
    assert "25.0x" in lines["composed"]
    assert "≥ 10x less" in lines["composed"]
    assert "NOT" not in lines["composed"]
    assert "0.5x" in lines["plain"]
    assert "≤ 20 CPU s" in lines["slow"]
    assert "NOT MET" in lines["slow"]
    assert "composed: a note" in text


def test_disturbed_runs_are_confessed() -> None:
    assert "1 of 2 runs shared the machine" in shown(REPORT)
    assert "shared the machine" not in shown(replace(REPORT, samples=()))


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1234"), (99.94, "99.9"), (0.04, "0.0")])
def test_numbers_have_no_false_digits(value: float, text: str) -> None:
    assert report_table.number(value) == text


def test_processor_is_read_from_cpuinfo() -> None:
    assert machine.processor("processor\t: 0\nmodel name\t: AMD EPYC\nmodel\t: 1\n") == "AMD EPYC"
    assert machine.processor("processor\t: 0\nBogoMIPS\t: 50.00\n") == ""


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3\n", "0.13.1+ds1"),
        ("github.com/docker/buildx v0.30.1 9e66234\n", "0.30.1"),
        ("", "unknown"),
    ],
)
def test_buildx_version(printed: str, version: str) -> None:
    assert machine.buildx(printed) == version


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("Nodes:\nBuildKit version: v0.0.0+unknown\nPlatforms: linux/amd64\n", "unknown"),
        ("Nodes:\nBuildKit version: v0.21.1\n", "0.21.1"),
        ("Nodes:\nBuildKit:         v0.12.5\n", "0.12.5"),
        ("Nodes:\nError: no\n", "unknown"),
    ],
)
def test_buildkit_version(printed: str, version: str) -> None:
    assert machine.buildkit(printed) == version


def test_others_at_work_make_a_run_doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.cpu_count", lambda: 2)
    assert not measuring.machine_is_busy(Times(5.0, 4.0, 0.0, 10.0), seconds=10.0)
    assert measuring.machine_is_busy(Times(5.0, 4.0, 0.0, 12.0), seconds=10.0)


def named(*names: str) -> list[Any]:
    class Process:
        def __init__(self, name: str) -> None:
            self.info = {"name": name, "status": psutil.STATUS_RUNNING}

    return [Process(name) for name in names]


@pytest.mark.parametrize("names", [("containerd",), ("dockerd", "dockerd", "containerd")])
def test_an_engine_elsewhere_cannot_be_measured(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    monkeypatch.setattr("psutil.process_iter", lambda _: named(*names))
    with pytest.raises(UserError, match="where exactly one does"):
        processor.Processor.find()


def test_distributions_are_told_from_an_images_paths() -> None:
    site = "usr/local/lib/python3.13/dist-packages"
    paths = [f"{site}/mlflow/server.py", f"{site}/mlflow-3.17.2.dist-info/METADATA"]
    paths += [f"{site}/six-1.17.0.dist-info/licenses/LICENSE", f"{site}/six.py", "etc/.dist-info.x"]
    assert information_folders(paths) == {"mlflow-3.17.2.dist-info", "six-1.17.0.dist-info"}


@pytest.mark.parametrize("target", ["upstream", "custom"])
def test_stages_that_ignore_the_cache(target: str) -> None:
    words = ANEW.read_text(encoding="utf-8")
    block = re.search(rf'target "{target}" {{\n[^}}]*}}\n  no-cache-filter = \["(.*)"\]\n}}', words)
    assert block
    dockerfile = (BAKE_FILE.parent / target / "Dockerfile").read_text(encoding="utf-8")
    # Bake takes an unknown stage without a word, and the step would come from the cache.
    _, found, stage = dockerfile.partition(f" AS {block[1]}\n")
    assert found
    # Such a stage would empty the mounts that hold downloads.
    assert "type=cache" not in stage


@pytest.mark.parametrize("target", ["upstream", "custom"])
def test_scripts_are_an_input_of_what_is_measured(target: str) -> None:
    dockerfile = (BAKE_FILE.parent / target / "Dockerfile").read_text(encoding="utf-8")
    assert "--mount=type=bind,from=scripts," in dockerfile


@pytest.mark.parametrize(
    ("output", "count"),
    [
        ("===== 54 passed, 2 skipped in 120.31s (0:02:00) =====", 54),
        ("1 passed in 3 s\nlater: 5 passed in 9.9s", 5),
    ],
)
def test_passed_tests_are_read_from_the_summary(output: str, count: int) -> None:
    assert trial_session.passed(output) == count


def test_a_session_without_a_passed_test_is_none() -> None:
    with pytest.raises(UserError, match="no test passed"):
        trial_session.passed("no tests ran in 0.01s")


def test_only_services_of_the_own_session_count() -> None:
    starts = trial_session.Starts(("postgres", "minio"))
    starts.belong_to(41)
    mine, foreign = "a host 41 123.5", "a host 42 123.5"
    for name, owner in (
        ("seatrial-1-postgres", mine),
        ("seatrial-1-minio", mine),
        ("seatrial-1-server-3", mine),
        ("seatrial-2-postgres", foreign),
        ("seatrial-3-postgres", ""),
    ):
        starts.take({"name": name, OWNER_LABEL: owner})
    assert starts.count == 2


def choose(suite: str = "build", parts: tuple[str, ...] = (), **more: Any) -> tuple[str, ...]:
    return suites.choose(suite, parts, **{"cold": False, "full": False, "repeat": 1, **more})


def test_parts_run_in_one_order() -> None:
    assert choose() == ("emulation", "warm", "session")
    assert choose(parts=("session", "emulation")) == ("emulation", "session")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suite": "speed"}, "unknown suite 'speed': known are build"),
        ({"parts": ("tea",)}, "unknown part 'tea': known are emulation, warm, session"),
        ({"parts": ("session",), "cold": True}, "--cold belongs to the part 'warm'"),
        ({"parts": ("warm",), "full": True}, "--full belongs to the part 'session'"),
        ({"repeat": 0}, "--repeat 0: at least one run"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        choose(**options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
