"""Tags by branch, pull request and version."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from seatrial.errors import UserError
from seatrial.release.tags import is_version, origin

SHA = "abc1234def5678"


def github(**variables: str) -> dict[str, str]:
    """The variables of a run on GitHub."""
    return {"GITHUB_ACTIONS": "true", "GITHUB_SHA": SHA, **variables}


def on_branch(name: str) -> dict[str, str]:
    """Those of a push to a branch."""
    return github(GITHUB_REF_NAME=name, GITHUB_REF_TYPE="branch", DEFAULT_BRANCH="main")


def of_version(name: str) -> dict[str, str]:
    """Those of a push of a tag."""
    return github(GITHUB_REF_NAME=name, GITHUB_REF_TYPE="tag", DEFAULT_BRANCH="main")


@pytest.mark.parametrize(
    ("environment", "tags"),
    [
        (on_branch("main"), ("main", "main-abc1234", "latest")),
        (on_branch("feature/x"), ("feature-x", "feature-x-abc1234")),
        (on_branch("-weiß&c"), ("wei-c", "wei-c-abc1234")),
        (github(GITHUB_REF="refs/pull/42/merge", GITHUB_REF_NAME="42/merge"), ("pr-42",)),
        (of_version("v1.2.3"), ("1.2.3", "1.2")),
        (of_version("1.2.3"), ("1.2.3", "1.2")),
        (of_version("v1.2.3-rc.1"), ("1.2.3-rc.1",)),
        (of_version("harbour"), ("harbour",)),
        (
            {
                "GITLAB_CI": "true",
                "CI_COMMIT_BRANCH": "main",
                "CI_COMMIT_SHA": SHA,
                "CI_DEFAULT_BRANCH": "main",
            },
            ("main", "main-abc1234", "latest"),
        ),
        ({"GITLAB_CI": "true", "CI_MERGE_REQUEST_IID": "7", "CI_COMMIT_SHA": SHA}, ("pr-7",)),
    ],
)
def test_tags_by_the_variables_of_ci(environment: dict[str, str], tags: tuple[str, ...]) -> None:
    assert origin(Path(), environment).tags == tags


def test_tags_by_git(tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet", "--initial-branch", "dock"], check=True)
    with pytest.raises(UserError, match="name it with --tag"):
        origin(tmp_path, {})
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "x"], check=True)
    branch, commit = origin(tmp_path, {}).tags
    assert branch == "dock"
    assert commit.startswith("dock-")
    assert len(commit) == len("dock-") + 7


def test_branch_that_makes_no_tag() -> None:
    with pytest.raises(UserError, match="makes no tag: name one with --tag"):
        _ = origin(Path(), on_branch("港")).tags


@pytest.mark.parametrize("tag", ["1.2.3", "v1.2.3", "1.2.3-rc.1", "3.17.2"])
def test_version(tag: str) -> None:
    assert is_version(tag)


@pytest.mark.parametrize("tag", ["1.2", "latest", "main", "main-1234567", "pr-1"])
def test_no_version(tag: str) -> None:
    assert not is_version(tag)
