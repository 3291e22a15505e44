"""The plugin in a pytest of its own: bad input is one line, and says nothing else."""

from __future__ import annotations

import pytest

from seatrial.catalogue import ROOT

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with an acceptance test; its engine is nowhere."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    pytester.makeconftest("pytest_plugins = ['seatrial.trial.plugin']")
    pytester.mkpydir("acceptance").joinpath("test_one.py").write_text(
        "def test_one() -> None: pass"
    )
    pytester.mkpydir("tests").joinpath("test_two.py").write_text("def test_two() -> None: pass")
    return pytester


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
            "ERROR: unknown promise 'server.colour': known keys are image.architectures, *",
        ),
        ([], "ERROR: no container engine answers at unix:///nowhere.sock*"),
    ],
)
def test_bad_input_is_one_line(project: pytest.Pytester, arguments: list[str], line: str) -> None:
    result = project.runpytest_subprocess("acceptance", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([line])
    assert [text for text in result.errlines if text] == [result.errlines[0]]
    assert "Traceback" not in result.stdout.str()


def test_other_tests_need_no_engine(project: pytest.Pytester) -> None:
    project.runpytest_subprocess("tests").assert_outcomes(passed=1)
