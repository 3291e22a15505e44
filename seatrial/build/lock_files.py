"""Renewing the locks: every Python package that is installed here or in an image, with hashes."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from uv import find_uv_bin

from seatrial import catalogue, process
from seatrial.console import make_console
from seatrial.errors import UserError
from seatrial.project import current

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

# Of the stand-in's Debian; the locks of the images are universal, so the official image's older
# Python takes its preferences from them as well.
IMAGE_PYTHON = "3.13"
"""Python of all bases."""
_DEVELOPMENT_PYTHON = "3.11"


@dataclass(frozen=True)
class LockFile:
    """A lock, and the files that it is made from."""

    source: Path
    target: Path
    python: str
    constraints: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    """Dependency groups of a pyproject.toml that are locked with its dependencies."""

    @property
    def overrides(self) -> Path | None:
        """Requirements that replace all others, where its folder lists some."""
        path = self.source.parent / "overrides.txt"
        return path if path.is_file() else None


def refresh() -> None:
    """Resolve every lock anew, each to the newest versions that fit together (`invoke lock`).

    Raises:
        UserError: a resolution failed; says which and why.
    """
    console = make_console()
    project = current()
    if not project.has_services:
        raise UserError(f"there are no locks of Seatrial's images in {project.root}")
    root, docker = project.root, project.root / "docker"
    chosen = catalogue.load()
    mlflow = f"mlflow=={chosen.arguments['MLFLOW_VERSION']}"
    upstream = docker / "upstream" / "requirements.txt"
    _refresh(
        console,
        LockFile(
            root / "pyproject.toml",
            root / "requirements.txt",
            _DEVELOPMENT_PYTHON,
            groups=("dev",),
        ),
        LockFile(_in(docker / "bases" / "tools"), _out(docker / "bases" / "tools"), IMAGE_PYTHON),
        LockFile(_in(docker / "model-wheels"), _out(docker / "model-wheels"), IMAGE_PYTHON),
        LockFile(_in(upstream.parent), upstream, IMAGE_PYTHON, (mlflow,)),
    )
    held = tuple(versions(upstream.read_text(encoding="utf-8")))
    for image in chosen.variants.values():
        if image.name != "upstream" and _in(image.folder).is_file():
            # What is added to upstream fits what upstream holds.
            fits = held if "upstream" in image.dependencies else (mlflow,)
            _refresh(console, LockFile(_in(image.folder), _out(image.folder), IMAGE_PYTHON, fits))


def versions(lock: str) -> list[str]:
    """Take the `name==version` out of a lock's text, with the marker where it has one."""
    return [
        line.rstrip(" \\")
        for line in lock.splitlines()
        if re.match(r"[A-Za-z0-9][\w.\[\],-]*==", line)
    ]


def addresses(lock: str) -> list[str]:
    """Take the `name @ url` out of a lock's text, with the marker where it has one."""
    return [
        line.rstrip(" \\")
        for line in lock.splitlines()
        if re.match(r"[A-Za-z0-9][\w.\[\],-]* @ ", line)
    ]


def _in(folder: Path) -> Path:
    return folder / "requirements.in"


def _out(folder: Path) -> Path:
    return folder / "requirements.txt"


def _refresh(console: Console, *locks: LockFile) -> None:
    for lock in locks:
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text("\n".join([*lock.constraints, ""]), encoding="utf-8")
            overrides = ["--override", str(lock.overrides)] if lock.overrides else []
            _compile(lock, ["--constraint", str(constraints), *overrides])
        console.print(f"{current().shown(lock.target)}: {len(_held(lock))} packages")


def _held(lock: LockFile) -> list[str]:
    return versions(lock.target.read_text(encoding="utf-8"))


def _compile(lock: LockFile, options: Sequence[str]) -> None:
    command = [
        *(find_uv_bin(), "pip", "compile", str(lock.source), "--output-file", str(lock.target)),
        *("--upgrade", "--universal", "--python-version", lock.python, "--generate-hashes"),
        # No addresses: whoever installs takes the index of the machine.
        *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
        *("--quiet", *(word for group in lock.groups for word in ("--group", group)), *options),
    ]
    done = process.run(command, folder=current().root)
    if done.returncode:
        why = " ".join(done.stderr.split())
        raise UserError(f"{current().shown(lock.source)} cannot be locked: {why}")
