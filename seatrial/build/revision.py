"""The source of the images, for their labels: repository, commit and time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from seatrial import process

if TYPE_CHECKING:
    from pathlib import Path

    from seatrial.project import Project


_NO_COMMIT = datetime(1980, 1, 1, tzinfo=UTC)
UNPUBLISHED = "urn:seatrial:unpublished"
"""Stands for the address of a tree without a public remote."""
UNKNOWN = "unknown"
"""Stands for the commit of a tree without git."""


@dataclass(frozen=True)
class Revision:
    """Repository and commit of the Dockerfiles."""

    commit: str
    """`UNKNOWN` without git; ends in `-dirty` where the tree differs from the commit."""
    source: str
    """The repository's address without credentials, or `UNPUBLISHED`."""
    moment: datetime
    """Time of the commit, so that the same commit gives the same images."""

    @property
    def epoch(self) -> str:
        """The value of SOURCE_DATE_EPOCH."""
        return str(int(self.moment.timestamp()))

    @property
    def created(self) -> str:
        """RFC 3339, as the label of the OCI wants it."""
        return self.moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def variables(self) -> dict[str, str]:
        """Variables of the bake file for the revision."""
        return {
            "SOURCE": self.source,
            "REVISION": self.commit,
            "CREATED": self.created,
            "SOURCE_DATE_EPOCH": self.epoch,
        }


def of(project: Project) -> Revision:
    """Read the revision of a repository's working tree.

    Without git, or without a commit, the moment is a fixed one: a clock would make every build
    another image.
    """

    def git(*arguments: str) -> str:
        return _git(project.root, *arguments)

    # What is installed may lie in somebody's repository.
    commit = "" if project.packaged else git("rev-parse", "HEAD")
    if not commit:
        return Revision(UNKNOWN, UNPUBLISHED, _NO_COMMIT)
    dirty = git("status", "--porcelain")
    moment = datetime.fromtimestamp(int(git("log", "-1", "--format=%ct")), UTC)
    source = public_address(git("config", "--get", "remote.origin.url")) or UNPUBLISHED
    return Revision(f"{commit}-dirty" if dirty else commit, source, moment)


def public_address(remote: str) -> str:
    """Turn a git remote into an address that may stand in a label.

    Returns:
        `https://...` without user or password; empty for a folder or a file.
    """
    if match := re.fullmatch(r"[\w.-]+@([\w.-]+):(?!//)(.+)", remote):
        remote = f"https://{match[1]}/{match[2]}"
    # The port of ssh says nothing about the web.
    remote = re.sub(r"^(?:ssh|git)://([^/]*?)(?::\d+)?/", r"https://\1/", remote)
    match = re.fullmatch(r"https?://(?:[^@/]*@)?([^/]+)/(.+?)(?:\.git)?/?", remote)
    return f"https://{match[1]}/{match[2]}" if match else ""


def _git(root: Path, *arguments: str) -> str:
    """Ask git about the repository; empty where git or the answer is missing."""
    return process.output(["git", *arguments], root) or ""
