"""The project's own checks, run in the environment that requirements.txt locks.

`nox` runs the checks; `nox -s acceptance` runs the trial.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import tomllib
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "dockerfiles", "imports", "types", "units"]
nox.options.error_on_missing_interpreters = True

DOCKERFILES = sorted(
    str(path)
    for folder in ("bench", "docker", "docs", "tests")
    for path in Path(folder).rglob("*Dockerfile*")
)
PACKAGES = [str(path.parent) for path in Path("packages").glob("*/pyproject.toml")]
"""Folders of the packages that ship in images."""
REGISTRY = "github.com/distribution/distribution/v3/cmd/registry@v3.1.2"
WRONG_ON_PURPOSE = ("DL3002", "DL3025", "DL3029", "DL3059", "DL3064", "DL3067")
"""Rules of hadolint that mutants break."""


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def dockerfiles(session: nox.Session) -> None:
    """Hadolint on every Dockerfile, and on those that mutants hold."""
    session.run("hadolint", *DOCKERFILES)
    folder, recipes = Path(session.create_tmp()), []
    for mutant in Path("docker/mutants").glob("*/*.toml"):
        if recipe := tomllib.loads(mutant.read_text(encoding="utf-8")).get("dockerfile"):
            recipes.append(folder / f"{mutant.stem}.Dockerfile")
            recipes[-1].write_text(recipe, encoding="utf-8")
    ignored = [word for rule in WRONG_ON_PURPOSE for word in ("--ignore", rule)]
    session.run("hadolint", *ignored, *map(str, recipes))


@nox.session
def imports(session: nox.Session) -> None:
    """Arrows between the packages go one way, and none leads round in a circle."""
    session.run("lint-imports", env={"PYTHONPATH": os.pathsep.join(PACKAGES)})


@nox.session
def workflows(session: nox.Session) -> None:
    """Workflows, actions and the template for GitLab: `-- --run` runs their steps through act."""
    session.run("python", "-m", "workflows", *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict."""
    session.run("mypy")


@nox.session
def units(session: nox.Session) -> None:
    """The tests of seatrial itself; they need no engine."""
    session.run("pytest", "tests", "packages", "-n", "auto", *session.posargs)


@nox.session
def search(session: nox.Session) -> None:
    """The tests with generated examples, with other examples in each run."""
    session.run("pytest", "tests", "packages", "-m", "hypothesis", "--hypothesis-profile", "search")


@nox.session
def mutation(session: nox.Session) -> None:
    """Changes of the packages in images, one line each, which their tests must find.

    `-- --package NAME`, `--module NAME`, `--sample N --seed S`.
    """
    session.run("python", "-m", "mutation", *session.posargs)


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


@nox.session
def registry(session: nox.Session) -> None:
    """Releases to a real registry, which Go compiles once; those with signatures need cosign."""
    if not (go := shutil.which("go")):
        session.error(
            "the registry is a program in Go: install Go, such as by `apt install golang`"
        )
    # Where the tests of `nox` find it from then on.
    programs = str(Path(".seatrial", "programs").absolute())
    session.run(go, "install", REGISTRY, env={"GOBIN": programs}, external=True)
    session.run("pytest", "tests/test_release_promotion.py", "-n", "auto", *session.posargs)


@nox.session
def reproducible(session: nox.Session) -> None:
    """Two builds of this commit, the second with nothing cached: one digest for each platform."""
    session.run("python", "-m", "reproducible", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """The package in an environment of its own: in a foreign repository, and in none.

    What follows `--` goes to `seatrial test`. Needs `seatrial/custom`, of which the image is made.
    """
    # Not below this folder: pytest and the tasks look for a repository above themselves.
    with tempfile.TemporaryDirectory(prefix="seatrial-wheel-") as folder:
        place = Path(folder)
        build = ("python", "-m", "build", "--wheel", "--no-isolation")
        session.run(*build, "--outdir", folder, silent=True)
        (built,) = place.glob("*.whl")
        # The lock's versions; its hashes would be asked of the wheel as well.
        lock = Path("requirements.txt").read_text(encoding="utf-8").splitlines()
        versions = [line.rstrip(" \\") for line in lock if line[:1].isalnum()]
        constraints = place / "constraints.txt"
        constraints.write_text("\n".join(versions), encoding="utf-8")
        session.run("python", "-m", "venv", str(place / "environment"))
        programs = place / "environment" / "bin"

        def run(program: str, *words: str) -> None:
            session.run(str(programs / program), *words, external=True)

        run("pip", "install", "--quiet", "--constraint", str(constraints), str(built))
        foreign = shutil.copytree("tests/foreign", place / "foreign")
        empty = place / "empty"
        empty.mkdir()
        shutil.copy(foreign / "images" / "mlflow" / "contract.toml", empty)
        image = ("--image", "harbour/mlflow:latest", "--contract", "contract.toml")
        with session.chdir(foreign):
            run("seatrial", "build")
            run("seatrial", "catalogue")
            run("pytest", "checks")
        with session.chdir(empty):
            run("seatrial", "test", *image, *session.posargs)
            run("seatrial", "test", *image, "--stack", "embedded", *session.posargs)
            run("pytest", "--pyargs", "seatrial.acceptance", *image, "-k", "health")
        session.run("docker", "image", "rm", "harbour/mlflow:latest", external=True)
