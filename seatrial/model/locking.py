"""Locking what a model requires, per platform, without running anything of that platform."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version
from uv import find_uv_bin

from seatrial.build.locks import IMAGE_PYTHON, addresses, versions
from seatrial.build.network import indexes, variables
from seatrial.catalogue import ROOT
from seatrial.errors import UserError, without_password
from seatrial.model.description import REQUIREMENTS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from seatrial.model.description import Description

SERVER = ROOT / "docker" / "model-server" / "server.in"
INDEX = "index.txt"
LOCK = "requirements.txt"
SOURCES = "sources.txt"
MADE_FROM = "made-from.txt"
"""A digest of what the lock was made from: as long as that is the same, so is the lock."""

_MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
_MLFLOW = ("mlflow", "mlflow-skinny")
_FIRST_SERVED = Version("3")
"""Before that, what answers requests is no ASGI application."""
_NAMES_FILE = re.compile(r"(?:-[cr]|--constraint|--requirement)\b[ =]*(.*?)(?:\s#.*)?")
"""A line of a requirements file that names another one."""
_REPOSITORIES = ("git+", "hg+", "svn+", "bzr+")
_NO_WHEEL = ("no usable wheels", "no wheels with a matching")
"""uv's words for what is published as a source only, or for other platforms."""
_WHERE = ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index")


def require_python(model: Description) -> None:
    """See that there is a base with the model's Python.

    Raises:
        UserError: there is none.
    """
    if not model.python:
        return
    if model.python.split(".")[:2] != IMAGE_PYTHON.split("."):
        raise UserError(
            f"the model was logged with Python {model.python}, and there is a base for Python "
            f"{IMAGE_PYTHON} only: log it with that, for one in the image hardened-dev"
        )


def lock(
    model: Description,
    folder: Path,
    platforms: Collection[str],
    target: Path,
    *,
    build_sources: bool,
) -> bool:
    """Write the lists from which the environment of a model's image is installed.

    What an earlier lock in `target` says is kept wherever it still fits; where nothing has changed
    that it was made from, it is taken as it is.

    Args:
        model: what the folder holds.
        folder: the model's.
        platforms: such as `linux/arm64`.
        target: gets `index.txt`, the model's own words for where its packages are, and per
            architecture `requirements.txt`, all that is installed, with hashes, and `sources.txt`,
            what has no wheel and has to be built.
        build_sources: whether anything may be in the latter.

    Returns:
        whether anything is.

    Raises:
        UserError: a requirement cannot be met, or is of an MLflow that cannot be served; says
            which, and on what platform.
    """
    own = (folder / REQUIREMENTS).read_text(encoding="utf-8")
    target.mkdir(parents=True, exist_ok=True)
    where = [line for line in own.splitlines() if line.split("=")[0].split(" ")[0] in _WHERE]
    (target / INDEX).write_text("".join(f"{line}\n" for line in where), encoding="utf-8")
    with ThreadPoolExecutor() as pool:
        work = [
            pool.submit(_lock, model, folder / REQUIREMENTS, platform, target, build_sources)
            for platform in platforms
        ]
    sources = [each.result() for each in work]
    for platform in platforms:
        _require_served(target / platform.partition("/")[2] / LOCK, platform)
    return any(sources)


def _require_served(lock: Path, platform: str) -> None:
    for requirement in map(Requirement, _pins(lock)):
        version = _version(requirement)
        if requirement.name in _MLFLOW and version and version < _FIRST_SERVED:
            raise UserError(
                f"the model requires {requirement.name} {version} on {platform}, and the image "
                f"needs MLflow {_FIRST_SERVED} or newer: log the model anew with that, or raise "
                f"its requirement in {REQUIREMENTS}"
            )


def _require_files(lock: Path) -> None:
    """See that nothing comes from a repository: only of a file pip can compare a hash."""
    for pin in addresses(lock.read_text(encoding="utf-8")):
        url = str(Requirement(pin).url)
        if url.startswith(_REPOSITORIES):
            raise UserError(
                f"the model requires {without_password(pin)}: what comes from a repository has no"
                " hash to be locked by; name the address of an archive of it instead, such as"
                " NAME @ https://.../archive/REVISION.tar.gz, and add --allow-emulated-build"
            )


def _version(pinned: Requirement) -> Version | None:
    """What a lock says of a version: nothing, where it names the address of a source."""
    if not pinned.url:
        (only,) = pinned.specifier
        return Version(only.version)
    try:
        return parse_wheel_filename(_file(pinned.url))[1]
    except InvalidWheelFilename:
        return None


def _file(url: str) -> str:
    """Name of the file at an address."""
    return unquote(PurePosixPath(urlsplit(url).path).name)


def _pins(lock: Path) -> list[str]:
    text = lock.read_text(encoding="utf-8")
    return versions(text) + addresses(text)


def _lock(
    model: Description, requirements: Path, platform: str, target: Path, build_sources: bool
) -> bool:
    folder = target / platform.partition("/")[2]
    folder.mkdir(exist_ok=True)
    own = requirements.read_text(encoding="utf-8")
    added = ""
    if not names(own).intersection(_MLFLOW):
        # Nothing serves a model without it, and log_model's pip_requirements may leave it out.
        added = f"mlflow=={model.mlflow}\n" if model.mlflow else "mlflow\n"
    server = SERVER.read_text(encoding="utf-8")
    made_from = _digest(own, added, server, str(build_sources), *_named(requirements))
    kept = folder / MADE_FROM
    if kept.is_file() and kept.read_text(encoding="utf-8") == made_from:
        return bool((folder / SOURCES).read_text(encoding="utf-8"))
    kept.unlink(missing_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".in", encoding="utf-8") as more:
        more.write(added)
        more.flush()
        wanted = [str(requirements), str(SERVER), more.name]
        wheels_only = () if build_sources else ("--only-binary", ":all:")
        _compile(wanted, folder / LOCK, platform, *wheels_only)
    _require_files(folder / LOCK)
    if build_sources:
        sources = _separate(folder, target / INDEX, platform)
    else:
        (folder / SOURCES).write_text("", encoding="utf-8")
        sources = False
    kept.write_text(made_from, encoding="utf-8")
    return sources


def _digest(*texts: str) -> str:
    """Of everything that a lock depends on, but for what is published meanwhile."""
    whole = "\0".join((*texts, IMAGE_PYTHON, *sorted(indexes(os.environ).values())))
    return hashlib.sha256(whole.encode()).hexdigest()


def _named(requirements: Path) -> list[str]:
    """The content of each file that a requirements file names, as a digest."""
    found: list[str] = []
    todo, seen = [requirements], {requirements}
    while todo:
        path = todo.pop()
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        matches = filter(None, (_NAMES_FILE.fullmatch(line.strip()) for line in lines))
        for named in (path.parent / match[1].strip("'\"") for match in matches):
            # uv itself says what is missing, and fetches what has an address.
            if named.is_file() and named not in seen:
                seen.add(named)
                todo.append(named)
                found.append(hashlib.sha256(named.read_bytes()).hexdigest())
    return found


def names(requirements: str) -> set[str]:
    """Collect the distributions that a requirements file names; other lines are left alone."""
    found: set[str] = set()
    for line in requirements.splitlines():
        try:
            found.add(canonicalize_name(Requirement(line.partition(" #")[0].strip()).name))
        except InvalidRequirement:
            continue
    return found


def _separate(folder: Path, index: Path, platform: str) -> bool:
    """Move what has no wheel from the lock to the list of what has to be built."""
    pinned = _pins(folder / LOCK)
    with ThreadPoolExecutor() as pool:
        has_wheel = list(pool.map(lambda pin: _has_wheel(pin, index, platform), pinned))
    sources = [pin for pin, wheel in zip(pinned, has_wheel, strict=True) if not wheel]
    wheels = [pin for pin, wheel in zip(pinned, has_wheel, strict=True) if wheel]
    for pins, path, options in (
        (wheels, folder / LOCK, ["--only-binary", ":all:"]),
        (sources, folder / SOURCES, ["--no-binary", ":all:"]),
    ):
        with tempfile.NamedTemporaryFile("w", suffix=".in", encoding="utf-8") as listed:
            listed.write("".join(f"{pin}\n" for pin in pins))
            listed.flush()
            _compile([str(index), listed.name], path, platform, "--no-deps", *options)
    return bool(sources)


def _has_wheel(pin: str, index: Path, platform: str) -> bool:
    if url := Requirement(pin).url:
        return _file(url).endswith(".whl")
    with tempfile.TemporaryDirectory() as nowhere:
        done = _uv(
            *("install", "--dry-run", "--no-deps", "--only-binary", ":all:"),
            *("--target", nowhere, *_aim(platform), "--requirement", str(index), pin),
        )
    if done.returncode and not _lacks_wheel(done.stderr):
        raise UserError(
            f"the package index does not say whether {pin} has a wheel for {platform}: "
            f"{_cause(done.stderr)}"
        )
    return done.returncode == 0


def _lacks_wheel(said: str) -> bool:
    text = " ".join(said.split())
    return any(words in text for words in _NO_WHEEL)


def _compile(sources: Sequence[str], target: Path, platform: str, *options: str) -> None:
    done = _uv(
        *("compile", "--generate-hashes", "--no-header", "--no-annotate"),
        *("--no-emit-index-url", "--no-emit-find-links"),
        *(*_aim(platform), *options, "--output-file", str(target), *sources),
    )
    if done.returncode:
        raise UserError(
            f"the model's requirements cannot be met on {platform}: {_cause(done.stderr)}"
        )


def _aim(platform: str) -> tuple[str, ...]:
    # The wheels that the bases' C library runs, and older systems' as well.
    machine = f"{_MACHINES[platform]}-manylinux_2_28"
    return ("--python-version", IMAGE_PYTHON, "--python-platform", machine)


def _uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [find_uv_bin(), "pip", *arguments, "--quiet"]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=variables(), cwd="/"
    )


def _cause(said: str) -> str:
    """The reason in uv's report, on one line."""
    text = " ".join(said.split())
    text = re.split(r" hint: |, we can conclude that ", text.rpartition(" cause: ")[2])[0]
    if _lacks_wheel(text):
        text += "; --allow-emulated-build builds it from its source, if it has one"
    return without_password(text.removeprefix("error: "))
