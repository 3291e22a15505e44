"""Run the commands of the documentation's guides.

The blocks `sh` of a guide are run one after the other. A block `json` is what the block before it
prints at its end. The block `sh clean` is run whether the others succeeded or not.
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
class GuideStep:
    """Block of commands."""

    commands: str
    answer: str | None
    """JSON that the commands must print at their end."""


@dataclass(frozen=True)
class Guide:
    """The commands of a guide."""

    steps: tuple[GuideStep, ...]
    clean: str


def read(path: Path) -> Guide:
    """Read a guide."""
    blocks = [
        (token.info, token.content)
        for token in MarkdownIt().parse(path.read_text(encoding="utf-8"))
        if token.type == "fence"
    ]
    steps = []
    for (language, content), (following, answer) in zip(
        blocks, [*blocks[1:], ("", "")], strict=True
    ):
        if language == "sh":
            steps.append(GuideStep(content, answer if following == "json" else None))
    (clean,) = (content for language, content in blocks if language == _CLEAN)
    return Guide(tuple(steps), clean)


def run(commands: str, *, limit: float) -> subprocess.CompletedProcess[str]:
    """Run commands in the project's folder, with the programs of this environment."""
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
