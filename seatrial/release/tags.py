"""Tags of an image, by the branch, pull request or version that it was made from."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seatrial import process
from seatrial.errors import UserError
from seatrial.registry.reference import TAG

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_VERSION = re.compile(r"v?(?P<major>\d+)\.(?P<minor>\d+)\.(?P<rest>\d+[0-9A-Za-z.-]*)", re.ASCII)
_SHORT = 7
"""Digits of a commit in a tag."""


@dataclass(frozen=True)
class Origin:
    """What an image was made from."""

    branch: str = ""
    pull_request: str = ""
    """Its number."""
    version: str = ""
    """A tag of the repository, such as `v1.2.3`."""
    commit: str = ""
    default_branch: str = ""

    @property
    def tags(self) -> tuple[str, ...]:
        """`pr-N`; a version and its major.minor; a branch, branch-commit, and `latest`.

        Source: the tags of docker/metadata-action, as the custom image pipeline asks for them.
        """
        if self.pull_request:
            return (f"pr-{self.pull_request}",)
        if self.version:
            match = _VERSION.fullmatch(self.version)
            if match is None:
                return (_plain(self.version),)
            short = f"{match['major']}.{match['minor']}"
            whole = f"{short}.{match['rest']}"
            # A candidate is not what a major.minor means.
            return (whole, short) if match["rest"].isdigit() else (whole,)
        name = _plain(self.branch)
        latest = ("latest",) if self.branch == self.default_branch else ()
        return (name, f"{name}-{self.commit[:_SHORT]}", *latest)


def is_version(tag: str) -> bool:
    """Tell whether a tag names a version, which never moves to another digest."""
    return _VERSION.fullmatch(tag) is not None


def origin(folder: Path, environment: Mapping[str, str] = os.environ) -> Origin:
    """Find what is being built: by GitHub's or GitLab's variables, else by git.

    Raises:
        UserError: neither says.
    """
    if environment.get("GITHUB_ACTIONS"):
        return _of_github(environment)
    if environment.get("GITLAB_CI"):
        return Origin(
            branch=environment.get("CI_COMMIT_BRANCH", ""),
            pull_request=environment.get("CI_MERGE_REQUEST_IID", ""),
            version=environment.get("CI_COMMIT_TAG", ""),
            commit=environment.get("CI_COMMIT_SHA", ""),
            default_branch=environment.get("CI_DEFAULT_BRANCH", ""),
        )
    branch = process.output(["git", "branch", "--show-current"], folder)
    commit = process.output(["git", "rev-parse", "HEAD"], folder)
    if not branch or not commit:
        raise UserError("no branch says how the image is to be tagged: name it with --tag")
    head = process.output(["git", "symbolic-ref", "--short", "refs/remotes/origin/HEAD"], folder)
    return Origin(branch=branch, commit=commit, default_branch=(head or "").partition("/")[2])


def _of_github(environment: Mapping[str, str]) -> Origin:
    name = environment.get("GITHUB_REF_NAME", "")
    commit = environment.get("GITHUB_SHA", "")
    number = re.fullmatch(r"refs/pull/(\d+)/\w+", environment.get("GITHUB_REF", ""))
    if number:
        return Origin(pull_request=number[1], commit=commit)
    if environment.get("GITHUB_REF_TYPE") == "tag":
        return Origin(version=name, commit=commit)
    # GitHub sets no variable for it; workflows pass github.event.repository.default_branch on.
    return Origin(branch=name, commit=commit, default_branch=environment.get("DEFAULT_BRANCH", ""))


def _plain(name: str) -> str:
    """Make a tag of a branch's name: `feature/x` is `feature-x`."""
    tag = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).lstrip(".-")[:100]
    if not TAG.fullmatch(tag):
        raise UserError(f"{name!r} makes no tag: name one with --tag")
    return tag
