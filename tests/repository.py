"""Path of this repository, wherever a test works, and what reading its catalogue needs."""

import subprocess
from pathlib import Path

import pytest

from seatrial.project import Project

ROOT = Path(__file__).resolve().parents[1]
BAKE_FILE = ROOT / "docker" / "docker-bake.hcl"
PROJECT = Project(ROOT, BAKE_FILE, ROOT / ".seatrial")


def buildx_missing() -> bool:
    try:
        done = subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False)
    except FileNotFoundError:
        return True
    return done.returncode != 0


needs_buildx = pytest.mark.skipif(
    buildx_missing(), reason="docker's buildx plugin, which reads the bake file, is not installed"
)
