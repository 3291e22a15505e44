"""Where this repository is, wherever a test works."""

from pathlib import Path

from seatrial.project import Project

ROOT = Path(__file__).resolve().parents[1]
BAKE_FILE = ROOT / "docker" / "docker-bake.hcl"
PROJECT = Project(ROOT, BAKE_FILE, ROOT / ".seatrial")
