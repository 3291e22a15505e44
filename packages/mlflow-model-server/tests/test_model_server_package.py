"""What the package requires, beside what its images install."""

from __future__ import annotations

import tomllib
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
LISTED = PACKAGE.parents[1] / "docker" / "model-server" / "server.in"


def test_images_install_what_the_package_requires() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = LISTED.read_text(encoding="utf-8").splitlines()
    # A model brings its MLflow, and the entry point is copied beside the server.
    assert {*lines} - {*filter(lambda line: line.startswith("#"), lines)} == {
        *project["dependencies"]
    } - {"mlflow", "mlflow-entrypoint"}
