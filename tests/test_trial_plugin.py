"""The plugin in a pytest of its own: what it needs, what it tells, and what it leaves alone."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from repository import ROOT

pytest_plugins = ["pytester"]

BARE = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:anyio"]
NO_ENGINE = "ERROR: no container engine answers at unix:///nowhere.sock*"
CONTRACT = """
description = "made up"
[image]
exposed_ports = [5000]
[server]
databases = ["sqlite", "postgresql"]
[command_line]
builds_models = ["local"]
"""
TESTS = """
import pytest

@pytest.mark.promise("server.databases")
def test_database(seatrial_promised, seatrial_server) -> None: pass

@pytest.mark.promise("server.databases", "sqlite")
def test_embedded(seatrial_embedded_server) -> None: pass

@pytest.mark.promise("image.exposed_ports")
def test_port(seatrial_image) -> None: pass

@pytest.mark.promise("python.pins")
def test_pins(seatrial_image) -> None: pass

@pytest.mark.promise("command_line.builds_models")
def test_natively(seatrial_image) -> None: pass
"""
MINE = ("--image", "made/up:1", "--contract", "contract.toml")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with acceptance tests and others; its engine is nowhere."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    pytester.makeconftest("pytest_plugins = ['seatrial.trial.plugin']")
    pytester.makeini("[pytest]\nseatrial_acceptance = acceptance\n")
    pytester.makefile(".toml", contract=CONTRACT)
    pytester.mkpydir("acceptance").joinpath("test_one.py").write_text(TESTS)
    pytester.mkpydir("tests").joinpath("test_two.py").write_text("def test_two() -> None: pass")
    pytester.mkdir("empty")
    return pytester


def assert_one_line(result: pytest.RunResult, line: str) -> None:
    """Assert that a run was refused with this line on standard error, and nothing else there."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([line])
    assert [text for text in result.errlines if text] == [result.errlines[0]]
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--stack", "half"], "ERROR: unknown stack 'half': known are full and embedded"),
        (
            ["--image", "x", "--variant", "y"],
            "ERROR: --image, --model-image and --variant exclude each other: give one",
        ),
        (
            ["--contract", "x.toml"],
            "ERROR: --contract goes with --image or --model-image: a variant has its own*",
        ),
        (["--model-image", "x"], "ERROR: --model-image and --model-uri go together: give both"),
        (
            ["--promise", "server.colour"],
            "ERROR: unknown promise 'server.colour': `seatrial promises` shows those *",
        ),
        (["--variant", "nowhere"], "ERROR: there is no catalogue in *"),
        (["--image", "x", "--contract", "nowhere.toml"], "ERROR: nowhere.toml: no such contract*"),
        ([*MINE, "--overlay", "nowhere"], "ERROR: --overlay nowhere: there is no such folder"),
        ([*MINE, "--overlay", "empty"], "ERROR: --overlay empty: it holds no file"),
        ([*MINE, "--platform", "arm65"], "ERROR: unknown platform 'arm65': known are *"),
        (
            [*MINE, "--promise", "python.pins"],
            "ERROR: made/up:1-*: python.pins is not promised",
        ),
        (MINE, NO_ENGINE),
    ],
)
def test_bad_input_is_one_line(project: pytest.Pytester, arguments: list[str], line: str) -> None:
    assert_one_line(project.runpytest_subprocess("acceptance", *arguments), line)


def test_overlay_for_an_engine_elsewhere(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    result = project.runpytest_subprocess("acceptance", *MINE, "--overlay", "tests")
    line = "ERROR: --overlay: the engine at tcp://127.0.0.1:9 * can't mount files of this host"
    assert_one_line(result, line)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--stack", "half"], "ERROR: unknown stack 'half': known are full and embedded"),
        (["--variant", "nowhere"], "ERROR: there is no catalogue in *"),
        (MINE, NO_ENGINE),
    ],
)
def test_what_a_worker_finds_is_one_line(
    project: pytest.Pytester, arguments: list[str], line: str
) -> None:
    result = project.runpytest_subprocess("acceptance", "-n", "2", *arguments)
    assert_one_line(result, line)


def test_other_tests_need_no_engine(project: pytest.Pytester) -> None:
    project.runpytest_subprocess("tests").assert_outcomes(passed=1)


def test_tests_are_listed_without_an_engine(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess(
        "acceptance", "--collect-only", "-q", *MINE, "--platform", "all", "--strict-markers"
    )
    assert result.ret == pytest.ExitCode.OK
    both = ("made/up:1-amd64", "made/up:1-arm64")
    *listed, natively = (
        line.partition("::")[2] for line in result.outlines if "::" in line and " " not in line
    )
    assert listed == [
        *(f"test_database[{each}-{item}]" for each in both for item in ("sqlite", "postgresql")),
        *(f"test_embedded[{each}]" for each in both),
        *(f"test_port[{each}]" for each in both),
    ]
    assert natively in [f"test_natively[{each}]" for each in both]
    result.stdout.fnmatch_lines(["*left out*", "*test_natively*: native only"])


def test_promise_without_a_test_is_one_line(project: pytest.Pytester) -> None:
    project.makefile(".toml", contract=f"{CONTRACT}\n[process]\nkeeps_data = true\n")
    result = project.runpytest_subprocess("acceptance", "--collect-only", *MINE)
    assert_one_line(result, "ERROR: contract.toml promises process.keeps_data, and no test in*")


def test_option_of_another_plugin_keeps_its_name(project: pytest.Pytester) -> None:
    """Ours has another name beside it, whichever of the two plugins is loaded first."""
    project.makepyfile(
        other="def pytest_addoption(parser):\n"
        "    parser.addoption('--image', help='a picture', default='nothing')\n",
        test_mine="def test_picture(pytestconfig):\n"
        "    assert pytestconfig.getoption('--image') == 'picture.png'\n"
        "    assert pytestconfig.option.seatrial_image == 'made/up:1'\n",
    )
    project.path.joinpath("conftest.py").unlink()
    for plugins in (["other", "seatrial.trial.plugin"], ["seatrial.trial.plugin", "other"]):
        result = project.runpytest_subprocess(
            *(word for plugin in plugins for word in ("-p", plugin)),
            *("--image", "picture.png", "--seatrial-image", "made/up:1", "test_mine.py"),
        )
        result.assert_outcomes(passed=1)


def test_option_that_a_conftest_declares_keeps_its_name(project: pytest.Pytester) -> None:
    project.makeconftest(
        "def pytest_addoption(parser):\n    parser.addoption('--stack', default='hay')\n"
    )
    project.makepyfile(
        test_mine="def test_hay(pytestconfig): assert pytestconfig.getoption('--stack') == 'hay'"
    )
    result = project.runpytest_subprocess("-p", "seatrial.trial.plugin", "test_mine.py")
    result.assert_outcomes(passed=1)


def test_two_plugins_with_the_same_long_name_are_one_line(project: pytest.Pytester) -> None:
    project.makepyfile(other="def pytest_addoption(parser): parser.addoption('--seatrial-stack')\n")
    project.path.joinpath("conftest.py").unlink()
    result = project.runpytest_subprocess("-p", "other", "-p", "seatrial.trial.plugin")
    assert_one_line(result, "ERROR: --seatrial-stack is an option of another plugin as well: *")


def test_loading_costs_nothing() -> None:
    code = "import sys, seatrial.trial.plugin, seatrial.trial.fixtures; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    heavy = {"boto3", "docker", "mlflow", "pydantic", "requests", "testcontainers"}
    assert heavy.isdisjoint(loaded)


def test_run_without_a_trial_leaves_temporary_files_to_pytest(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    project.makepyfile(test_mine="import os\ndef test_place(): assert 'TMPDIR' not in os.environ\n")
    project.runpytest_subprocess("test_mine.py").assert_outcomes(passed=1)


def test_own_test_needs_no_promise(project: pytest.Pytester) -> None:
    project.makepyfile(test_mine="def test_mine(seatrial_client, seatrial_experiment): pass")
    listing = ("--collect-only", "-q", *MINE, "--platform", "amd64")
    result = project.runpytest_subprocess("test_mine.py", *listing)
    result.stdout.fnmatch_lines(["test_mine.py::test_mine[[]made/up:1-amd64]"])


def test_acceptance_test_needs_a_promise(project: pytest.Pytester) -> None:
    project.path.joinpath("acceptance", "test_mine.py").write_text(
        "def test_mine(seatrial_image): pass"
    )
    result = project.runpytest_subprocess("acceptance", "--collect-only", "-q", *MINE)
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*test_mine says no promise: mark it with one"])


def test_only_tests_of_images_need_the_engine(project: pytest.Pytester) -> None:
    """Those that were selected: the others are no reason to look for it."""
    project.path.joinpath("acceptance", "test_mine.py").write_text("def test_arithmetic(): pass")
    project.runpytest_subprocess("acceptance", *MINE, "-k", "arithmetic").assert_outcomes(
        passed=1, deselected=5
    )


def test_every_fixture_is_documented(project: pytest.Pytester) -> None:
    listed = project.runpytest_subprocess("--fixtures", "-q", "tests").stdout.str()
    internal = {"seatrial_run", "seatrial_case"}
    document = ROOT.joinpath("docs", "trial.md").read_text(encoding="utf-8")
    fixtures = set(re.findall(r"^(seatrial_\w+)", listed, re.MULTILINE))
    assert fixtures - internal == set(re.findall(r"`(seatrial_\w+)`", document))


def test_fixtures_have_short_names_in_the_acceptance_tests_alone(project: pytest.Pytester) -> None:
    listed = project.runpytest_subprocess("--fixtures", "-q", "tests").stdout.str()
    assert "\nseatrial_server" in listed
    assert "\nserver" not in listed
    aliases = ROOT.joinpath("acceptance", "conftest.py").read_text(encoding="utf-8")
    project.path.joinpath("acceptance", "conftest.py").write_text(aliases)
    listed = project.runpytest_subprocess("--fixtures", "-q", "acceptance", *MINE).stdout.str()
    for name in ("trial", "servers", "image", "server", "client", "services", "serve"):
        assert re.search(rf"^seatrial_{name} ", listed, re.MULTILINE)
        assert re.search(rf"^{name} ", listed, re.MULTILINE)
