"""Run MLflow's own builds of model images: `mlflow models build-docker` and `generate-dockerfile`.

Its Dockerfile begins with `python:X.Y.Z-slim`, in the model's own version of Python. Where no
registry gives that, a stand-in takes its place: an image with a name of its own, which the build is
told to take (`docker build --build-context`). It holds this machine's authorities and indexes, so
it never gets the official name, under which others would find it.
"""

from __future__ import annotations

import configparser
import io
import os
import re
import shutil
import sys
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from docker.errors import ImageNotFound
from filelock import FileLock

from seatrial import catalogue, private, process
from seatrial.build import bake, bootstrap, builder, docker_cli, network
from seatrial.catalogue.bake_file import environment
from seatrial.engine import connection, registries, trust
from seatrial.errors import UserError, without_password
from seatrial.project import builtin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from docker import DockerClient
    from docker.models.images import Image
    from rich.console import Console

TARGET = "python-slim"
_STAND_IN_LABEL = "io.seatrial.stand-in"
_AUTHORITIES = "ssl/host-authorities.pem"
_KEPT_LINES = 60
_OUTPUT = re.compile(r"(#\d+ )?\d+\.\d+ (.*)")
"""A line of a step, as docker shows it: with the step's number, in the end without."""
_FAILED = re.compile(r"(#\d+ )ERROR: ")
"""Line about a step that failed."""
_RULE = "------"
"""Rule that docker prints before and after the last lines of a step that failed."""


@dataclass(frozen=True)
class Base:
    """Base image of a model's Dockerfile."""

    reference: str
    """Reference, such as `python:3.13.5-slim`."""
    digest: str
    """Current digest of the reference, in its registry or in the engine's store."""
    stand_in: str = ""
    """Image that replaces a base that can't be pulled: made here from Debian's packages, with as
    much of the interface as MLflow uses."""

    @property
    def image(self) -> str:
        """Name in the engine."""
        return self.stand_in or self.reference

    @property
    def options(self) -> tuple[str, ...]:
        """Options for `docker build` that replace the base by the stand-in."""
        if not self.stand_in:
            return ()
        return ("--build-context", f"{self.reference}=docker-image://{self.stand_in}")


class NoBaseError(UserError):
    """No base with the model's version of Python is available on this machine."""


def find_base(version: str, stand_in: str, console: Console) -> Base:
    """Find `python:VERSION-slim`, or make its stand-in.

    Args:
        version: of the model's Python, such as `3.13.5`.
        stand_in: a reference for the stand-in, should it be needed; whoever gives it removes it.
        console: where the progress of a build goes.

    Raises:
        NoBaseError: no registry answers, and the stand-in's Python has another version.
        UserError: the registry has no such image, or the stand-in can't be built.
    """
    reference = f"python:{version}-slim"
    pinned = registries.resolve(reference)
    with closing(connection.connect()) as engine:
        held = _held(engine, reference)
        if held and _is_stand_in(held):
            # Earlier versions gave it the official name; the engine asks no registry for what it
            # has.
            engine.images.remove(reference, force=True)
            held = None
        if pinned:
            return Base(reference, pinned.partition("@")[2])
        if held:
            return Base(reference, str(held.id))
        machine = _machine()
        machine.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(machine.with_suffix(".lock")):
            made = _held(engine, stand_in) or _make(engine, stand_in, console)
        found = _python_of(made)
        if found != version:
            raise NoBaseError(
                f"the model was logged with Python {version}: no registry answers that would"
                f" give {reference}, and its stand-in has {found}; log the model with that, for"
                " one in the image custom, or build where a registry answers"
            )
        return Base(reference, str(made.id), stand_in)


def build(model_uri: str, tag: str, tracking_uri: str, base: Base) -> None:
    """Build a model's image as a user does, with `mlflow models build-docker`.

    Args:
        model_uri: as MLflow takes it.
        tag: the image's reference.
        tracking_uri: of the tracking server.
        base: of its Dockerfile.

    Raises:
        UserError: it failed. The error's notes are the last lines of the output.
    """
    words = ["models", "build-docker", "-m", model_uri, "-n", tag, "--env-manager", "local"]
    # MLflow runs `docker build` itself.
    with docker_cli.with_options(*base.options) as variables:
        _run(
            [sys.executable, "-m", "mlflow", *words],
            {
                **variables,
                "MLFLOW_TRACKING_URI": tracking_uri,
                # A process may have been told of another server's.
                "MLFLOW_REGISTRY_URI": tracking_uri,
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            f"mlflow {' '.join(words)}",
        )


def build_generated(
    folder: Path, tag: str, labels: Mapping[str, str], base: Base | None = None
) -> None:
    """Build the Dockerfile that `mlflow models generate-dockerfile` has written, as a user does.

    Args:
        folder: where it is, with the model beside it.
        tag: the image's reference.
        labels: of the image, beside those that it inherits.
        base: the base, where that is Python's official image.

    Raises:
        UserError: it failed. The error's notes are the last lines of the output.
    """
    marks = [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
    options = base.options if base else ()
    command = ["docker", "build", "--tag", tag, *marks, *options, str(folder)]
    _run(command, {}, f"docker build {folder}")


def _held(engine: DockerClient, reference: str) -> Image | None:
    try:
        return engine.images.get(reference)
    except ImageNotFound:
        return None


def _is_stand_in(image: Image) -> bool:
    return image.labels.get(_STAND_IN_LABEL) == "true"


def _machine() -> Path:
    """Return the folder for the stand-in's inputs from this machine: a context of the bake file."""
    return builtin().state / "bases" / TARGET


def _make(engine: DockerClient, reference: str, console: Console) -> Image:
    host = builder.find(None)
    chosen = catalogue.load_builtin({"BUILD_PLATFORM": host.platform})
    # Where a registry gave Debian, it would give the official image as well.
    debian = bootstrap.ensure(host.platform.partition("/")[2])
    machine = _machine()
    # An index's address may hold a password.
    private.make_folder(machine)
    # Docker's own media types know no zstd, and the engine does not list what has them.
    compression = chosen.arguments["COMPRESSION"]
    output = f"type=docker,oci-mediatypes=true,compression={compression}"
    settings = machine / "etc"
    try:
        write_settings(settings, trust.bundle(), network.indexes(os.environ))
        with network.secrets() as secrets:
            variables = {
                **secrets,
                "BUILD_PLATFORM": host.platform,
                "DEBIAN_DIGEST": debian.digest,
            }
            bake.run(
                [TARGET],
                [
                    f"{TARGET}.output={output}",
                    f"{TARGET}.tags={reference}",
                    # The time of the build is in there: the same image would get another digest.
                    f"{TARGET}.attest=type=provenance,disabled=true",
                ],
                environment(chosen.arguments, variables),
                builder=None,
                no_cache=False,
                console=console,
                project=chosen.project,
            )
    finally:
        shutil.rmtree(settings, ignore_errors=True)
    return engine.images.get(reference)


def write_settings(folder: Path, authorities: Path | None, indexes: Mapping[str, str]) -> None:
    """Write what pip in the stand-in needs to know of this machine; nothing where that is nothing.

    Args:
        folder: gets what is to be in `/etc`; what was there goes. Its parent is closed to others:
            an index may have a password.
        authorities: the machine's bundle.
        indexes: as `network.indexes` collects them.
    """
    private.make_folder(folder.parent)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    options = {}
    if authorities:
        target = folder / _AUTHORITIES
        target.parent.mkdir()
        shutil.copyfile(authorities, target)
        options["cert"] = f"/etc/{_AUTHORITIES}"
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        if name in indexes:
            options[name.removeprefix("PIP_").lower().replace("_", "-")] = indexes[name]
    if options:
        written = configparser.RawConfigParser()
        written["global"] = options
        text = io.StringIO()
        written.write(text)
        path = folder / "pip.conf"
        private.write(path, text.getvalue())
        if without_password(text.getvalue()) == text.getvalue():
            # In the image, any user's pip may read it.
            path.chmod(0o644)


def _python_of(image: Image) -> str:
    # The client's --rm is the engine's: the container goes even if this process is killed.
    ask = "import platform; print(platform.python_version())"
    command = ["docker", "run", "--rm", "--network=none", str(image.id), "python", "-c", ask]
    done = process.run(command)
    if done.returncode:
        raise UserError(f"the stand-in {image.tags[0]} has no Python that runs: {done.stderr}")
    return done.stdout.strip()


def _run(command: Sequence[str], variables: Mapping[str, str], name: str) -> None:
    """Run a build and pass its output on, line by line."""
    last: deque[str] = deque(maxlen=_KEPT_LINES)
    machine = {**os.environ, **variables, "PYTHONUNBUFFERED": "1"}
    with process.group(command, machine) as running:
        assert running.stdout
        for line in io.TextIOWrapper(running.stdout, "utf-8", errors="replace"):
            sys.stdout.write(line)
            last.append(line.rstrip())
    if running.returncode:
        error = UserError(f"{name}: {cause(list(last)) or f'exit code {running.returncode}'}")
        error.add_note("\n".join(last))
        raise error


def cause(lines: Sequence[str]) -> str:
    """Find the reason in the last lines of a build, as one line; empty without output."""
    final = next((line for line in reversed(lines) if line.startswith(("ERROR: ", "Error: "))), "")
    rules = [number for number, line in enumerate(lines) if line == _RULE]
    if final and len(rules) > 1:
        # Of the step that failed: " > [4/7] RUN ...:", and its last lines, with the seconds before.
        step, *output = lines[rules[-2] + 1 : rules[-1]]
        number = next((match[1] for line in lines if (match := _FAILED.match(line))), None)
        matches = [match for line in lines if (match := _OUTPUT.match(line))]
        output_of_step = [match[2] for match in matches if match[1] in (None, number)]
        # pip says why, and MLflow's traceback after that only that it failed.
        errors = [line for line in output_of_step if line.startswith("ERROR: ")]
        why = [*output[-1:], *output_of_step[-1:], *errors[-1:]]
        return f"{step.strip(' >:')}: {why[-1] if why else final}"
    return final or next((line for line in reversed(lines) if line), "")
