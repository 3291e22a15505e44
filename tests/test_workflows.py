"""How workflows are run here; act itself runs a small one."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from seatrial.errors import UserError
from workflows import acting, sources
from workflows.command import run

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOW = """
on: push
jobs:
  job:
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1
      - name: Good
        run: echo fine
      - name: Never
        if: github.actor == 'nobody-else'
        run: exit 1
      - name: Bad
        run: |
          echo "the reason"
          exit 3
"""


def test_every_job_is_run_or_left_for_a_reason() -> None:
    assert set(acting.load()) == set(sources.jobs())


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["checks.yml:checks"], "names of jobs go with --run"),
        (["--run", "checks.yml:nothing"], "unknown jobs: checks.yml:nothing; known are checks.yml"),
    ],
)
def test_wrong_words_are_one_line(
    monkeypatch: pytest.MonkeyPatch, words: list[str], fault: str
) -> None:
    monkeypatch.setattr("workflows.command._check", lambda _: 0)
    with pytest.raises(UserError, match=fault):
        run(words)


def test_steps_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    (copy / ".github" / "workflows").mkdir(parents=True)
    (copy / ".github" / "workflows" / "small.yml").write_text(WORKFLOW)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "x"]):
        subprocess.run([*git, *words], cwd=copy, check=True)
    runs = {"small.yml:job": acting.Run("small.yml:job"), "a:b": acting.Run("a:b", left="no arm64")}
    monkeypatch.setattr(acting, "load", lambda: runs)
    # act asks for no engine here, and must not find one.
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    assert acting.run(copy, []) == 1
    shown = [line.split("│")[1:5] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [tuple(word.strip() for word in line) for line in shown] == [
        ("small.yml:job", "actions/checkout", "left", "an action of other people"),
        ("small.yml:job", "Good", "passed", "fine"),
        ("small.yml:job", "Bad", "failed", "the reason"),
        ("a:b", "the whole job", "left", "no arm64"),
    ]


def test_copy_names_its_own_actions_as_act_knows_them(tmp_path: Path) -> None:
    sources.clone(tmp_path / "copy")
    text = (tmp_path / "copy" / ".github" / "workflows" / "checks.yml").read_text()
    assert "uses: ./.github/actions/prepare" in text
    assert "$/" not in text
    assert (tmp_path / "copy" / "pyproject.toml").read_bytes() == (
        sources.ROOT / "pyproject.toml"
    ).read_bytes()
