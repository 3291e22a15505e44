"""The documentation's guides, as something that can be run.

Of a guide's fenced blocks, those in `sh` are run one after the other, and one in `json` is what the
block before it prints at its end. The block `sh clean` is run whatever came of the others.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from seatrial.project import current

_CLEAN = "sh clean"


@dataclass(frozen=True)
class Step:
    """One block of commands."""

    commands: str
    answer: str | None
    """What it must print at its end, as JSON."""


@dataclass(frozen=True)
class Guide:
    """What a guide says to do."""

    steps: tuple[Step, ...]
    clean: str


def read(path: Path) -> Guide:
    """Read a guide."""
    blocks = [
        (token.info, token.content)
        for token in MarkdownIt().parse(path.read_text(encoding="utf-8"))
        if token.type == "fence"
    ]
    steps = []
    for (kind, content), (following, answer) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if kind == "sh":
            steps.append(Step(content, answer if following == "json" else None))
    (clean,) = (content for kind, content in blocks if kind == _CLEAN)
    return Guide(tuple(steps), clean)


def run(commands: str, *, limit: float) -> subprocess.CompletedProcess[str]:
    """Run commands as a reader would, in the project's folder, with what is installed here."""
    programs = Path(sys.executable).parent
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=current().root,
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
