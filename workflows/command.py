"""Hold workflows to their rules, or run them through act."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from seatrial.errors import UserError
from workflows import acting, sources

if TYPE_CHECKING:
    from collections.abc import Sequence

_ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
_PROGRAMS = Path(sys.executable).parent


def run(arguments: Sequence[str]) -> int:
    """Check all of them; with `--run` also run their jobs.

    Args:
        arguments: of the command line, without the program.

    Returns:
        0 where nothing was found and no step failed, else 1.

    Raises:
        UserError: a program that it takes is not there, or a job is unknown.
    """
    parser = argparse.ArgumentParser(prog="nox -s workflows --", description=__doc__)
    parser.add_argument("--run", action="store_true", help="run the jobs' steps through act")
    parser.add_argument("job", nargs="*", help="of --run: FILE.yml:JOB; all without")
    asked = parser.parse_args(arguments)
    if asked.job and not asked.run:
        raise UserError("names of jobs go with --run")
    with tempfile.TemporaryDirectory(prefix="seatrial-workflows-") as folder:
        copy = Path(folder) / "seatrial"
        sources.clone(copy)
        found = _check(copy)
        if found or not asked.run:
            return found
        return acting.run(copy, asked.job)


def _check(copy: Path) -> int:
    schema = (str(_PROGRAMS / "check-jsonschema"), "--builtin-schema")
    gitlab = ("--data-transform", "gitlab-ci", "templates/gitlab-ci.yml")
    zizmor = (str(_PROGRAMS / "zizmor"), "--offline", "--no-progress", "--persona", "pedantic")
    if not (go := shutil.which("go")):
        raise UserError(
            "actionlint is a program in Go: install Go, such as by `apt install golang`"
        )
    workflows = [str(path.relative_to(sources.ROOT)) for path in sources.workflows()]
    actions = [str(path.relative_to(sources.ROOT)) for path in sources.actions()]
    checks: list[tuple[Path, Sequence[str]]] = [
        (sources.ROOT, [*schema, "vendor.github-workflows", *workflows]),
        (sources.ROOT, [*schema, "vendor.github-actions", *actions]),
        (sources.ROOT, [*schema, "vendor.gitlab-ci", *gitlab]),
        (sources.ROOT, [*zizmor, ".", str(sources.FOREIGN)]),
        (copy, [go, "run", _ACTIONLINT, *workflows]),
    ]
    codes = [subprocess.run(words, cwd=place, check=False).returncode for place, words in checks]
    return int(any(codes))
