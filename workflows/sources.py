"""The workflows and actions of this repository, and copies that other tools understand."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
_SELF = "uses: $/"
"""A reference to the running commit of this repository; newer than actionlint and act."""
_PINNED = re.compile(r"uses: ([\w.-]+/[\w./-]+@[0-9a-f]{40})")


@dataclass(frozen=True)
class Job:
    """A job of a workflow."""

    workflow: str
    """Name of its file."""
    name: str
    """Its key in the file."""
    steps: tuple[dict[str, Any], ...]
    """Empty where it calls another workflow."""

    def __str__(self) -> str:
        return f"{self.workflow}:{self.name}"


def workflows() -> list[Path]:
    """The files of the workflows."""
    return sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def actions() -> list[Path]:
    """The files of the actions."""
    return [ROOT / "action.yml", *sorted((ROOT / ".github" / "actions").glob("*/action.yml"))]


def jobs() -> list[Job]:
    """Every job, in the order of the files."""
    return [
        Job(path.name, name, tuple(job.get("steps", ())))
        for path in workflows()
        for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items()
    ]


def foreign_actions() -> list[str]:
    """Actions of other people, each as `owner/name@commit`."""
    found: set[str] = set()
    for path in (*workflows(), *actions()):
        found.update(_PINNED.findall(path.read_text(encoding="utf-8")))
    return sorted(found)


def clone(place: Path) -> None:
    """Copy what git tracks, as it is in the working folder, with references as `./`.

    The copy is a repository with one commit: act asks it for the commit and the branch.
    """
    place.mkdir()
    listed = _git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, place / name
        if not source.is_file():
            continue  # removed, and not committed yet
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        target.chmod(source.stat().st_mode)
    for path in (*workflows(), *actions()):
        copy = place / path.relative_to(ROOT)
        copy.write_text(copy.read_text(encoding="utf-8").replace(_SELF, "uses: ./"))
    _git(place, "init", "--quiet", "--initial-branch", "main")
    _git(place, "add", "--all")
    author = ("-c", "user.name=seatrial", "-c", "user.email=seatrial@localhost")
    _git(place, *author, "commit", "--quiet", "--message", "A copy for the workflows")


def _git(place: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(place), *words], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout
