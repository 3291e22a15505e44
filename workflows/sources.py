"""The workflows and actions of this repository, and copies that other tools understand."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
FOREIGN = ROOT / "tests" / "foreign"
"""Another repository, whose workflow calls the action of this one."""
OWN_ACTION = f"seatrial/seatrial@{'0' * 40}"
"""What it is called there."""
_SELF = "uses: $/"
"""A reference to the running commit of this repository; newer than actionlint and act."""
_PINNED = re.compile(r"uses: ((?!seatrial/)[\w.-]+/[\w./-]+@[0-9a-f]{40})")


def workflows() -> list[Path]:
    """The files of the workflows, those of the other repository last."""
    return [
        path
        for repository in (ROOT, FOREIGN)
        for path in sorted((repository / ".github" / "workflows").glob("*.yml"))
    ]


def actions() -> list[Path]:
    """The files of the actions."""
    return [ROOT / "action.yml", *sorted((ROOT / ".github" / "actions").glob("*/action.yml"))]


def jobs() -> list[str]:
    """Every job as `FILE.yml:JOB`, behind `foreign/` where it is the other repository's."""
    return [
        f"{'foreign/' if path.is_relative_to(FOREIGN) else ''}{path.name}:{job}"
        for path in workflows()
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
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
        if source.is_file():  # else it is removed, and that is not committed yet
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target, follow_symlinks=False)
    for path in (*workflows(), *actions()):
        copy = place / path.relative_to(ROOT)
        copy.write_text(copy.read_text(encoding="utf-8").replace(_SELF, "uses: ./"))
    _commit(place)


def clone_foreign(copy: Path, place: Path) -> None:
    """Take the other repository out of a copy of this one."""
    shutil.copytree(copy / FOREIGN.relative_to(ROOT), place)
    _commit(place)


def _commit(place: Path) -> None:
    _git(place, "init", "--quiet", "--initial-branch", "main")
    _git(place, "add", "--all")
    author = ("-c", "user.name=seatrial", "-c", "user.email=seatrial@localhost")
    _git(place, *author, "commit", "--quiet", "--message", "A copy for the workflows")


def _git(place: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(place), *words], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout
