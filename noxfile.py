"""The project's own checks, run in the environment that requirements.txt locks.

`nox` runs the checks; `nox -s acceptance` runs the trial.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "dockerfiles", "imports", "types", "units"]
nox.options.error_on_missing_interpreters = True

DOCKERFILES = sorted(
    str(path)
    for folder in ("bench", "docker", "docs")
    for path in Path(folder).rglob("*Dockerfile*")
)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def dockerfiles(session: nox.Session) -> None:
    """Hadolint on every Dockerfile."""
    session.run("hadolint", *DOCKERFILES)


@nox.session
def imports(session: nox.Session) -> None:
    """Arrows between the packages go one way."""
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict."""
    session.run("mypy")


@nox.session
def units(session: nox.Session) -> None:
    """The tests of seatrial itself; they need no engine."""
    session.run("pytest", "tests", *session.posargs)


@nox.session
def search(session: nox.Session) -> None:
    """The tests with generated examples, with other examples in each run."""
    session.run("pytest", "tests", "-m", "hypothesis", "--hypothesis-profile", "search")


@nox.session
def mutants(session: nox.Session) -> None:
    """Images that break one promise each, which the trial must refuse: `-- --list` shows them."""
    session.run("python", "-m", "seatrial.mutants", *session.posargs)


@nox.session
def acceptance(session: nox.Session) -> None:
    """The trial, on the images that were built last: what follows `--` goes to `invoke test`."""
    session.run("invoke", "test", *session.posargs)


@nox.session
def leftovers(session: nox.Session) -> None:
    """The trial as well, between two looks at the machine, which must be as it was."""
    session.run("python", "-m", "seatrial.trial.leftovers", *session.posargs)


@nox.session
def machine(session: nox.Session) -> None:
    """`invoke setup` and its undo on machines of several kinds, in containers."""
    session.run("pytest", "machine", *session.posargs)
