"""Locking what a model requires, per platform, in a container.

The container gets the parsed requirements, this machine's package indexes, and nothing else of this
machine; it installs nothing and takes metadata of wheels alone, so no code of a package runs there.
What is published as a source only is fetched by one container and built by another one, without
network, secrets and root (docker/model-wheels).
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from seatrial import catalogue, private
from seatrial.build import bake
from seatrial.build.build import find_bases, spread
from seatrial.build.lock_files import IMAGE_PYTHON, addresses, versions
from seatrial.build.network import indexes, secrets
from seatrial.catalogue.bake_file import environment
from seatrial.console import make_console
from seatrial.errors import UserError, without_password
from seatrial.model import requirements, wheels
from seatrial.project import builtin

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from seatrial.build.builder import Builder
    from seatrial.model.description import Description
    from seatrial.model.requirements import Requirements

TARGET = "model-lock"
WANTED = "wanted.in"
CONSTRAINTS = "constraints.in"
INDEX = "index.txt"
LOCK = "requirements.txt"
SOURCES = "sources.txt"
FAULT = "fault.txt"
MADE_FROM = "made-from.txt"
"""A digest of what the lock was made from: as long as that is the same, so is the lock."""

_MLFLOW = ("mlflow", "mlflow-skinny")
_FIRST_SERVED = Version("3")
"""Oldest MLflow whose scoring server is an ASGI application."""
_LACKS_WHEEL = re.compile(
    r"(?:all versions of )?(?P<name>[A-Za-z0-9][\w.-]*?)(?P<bound>==[\w.+!]+)?"
    r" ha(?:s|ve) no (?:usable )?wheels"
)
"""uv's words for what is published as a source only, or for other platforms."""
_LONGEST = 600
"""Characters of a reason; uv repeats the requirement that it cannot read, and underlines it."""
_MOST_ROUNDS = 12
"""Distributions that are built from their sources, each found by one attempt to do without."""


@dataclass(frozen=True)
class Resolver:
    """Builder on which the resolution runs."""

    host: Builder
    builder: str | None
    """Name of a builder other than the one in use."""


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
    wanted: Requirements,
    mlflow: str,
    platforms: Collection[str],
    target: Path,
    resolver: Resolver,
    *,
    build_sources: bool,
) -> bool:
    """Write the lists from which the environment of a model's image is installed.

    What an earlier lock in `target` says is kept wherever it still fits; where nothing has changed
    that it was made from, it is taken as it is.

    Args:
        wanted: what the model requires.
        mlflow: the version that logged the model, for one that does not require MLflow itself;
            empty where it is not known.
        platforms: such as `linux/arm64`.
        target: gets `index.txt`, where packages are looked for beside this machine's indexes, and
            per architecture `requirements.txt`, all that is installed, with hashes, and
            `sources.txt`, what has no wheel and has to be built.
        resolver: where to resolve.
        build_sources: whether anything may be in the latter.

    Returns:
        whether anything is.

    Raises:
        UserError: a requirement cannot be met, or is of an MLflow that cannot be served; says
            which, and on what platform.
    """
    private.make_folder(target)
    architectures = [platform.partition("/")[2] for platform in platforms]
    _require_wheels(wanted, allowed=build_sources)
    wheels.require_fitting(wanted.wheels, architectures, IMAGE_PYTHON)
    made_from = _write(wanted, mlflow, target, build_sources=build_sources)
    stale = [arch for arch in architectures if _read(target / arch / MADE_FROM) != made_from]
    if stale:
        for arch in stale:
            (target / arch).mkdir(exist_ok=True)
            (target / arch / MADE_FROM).unlink(missing_ok=True)
        _resolve(wanted, stale, target, resolver, build_sources=build_sources)
        for arch in stale:
            (target / arch / MADE_FROM).write_text(made_from, encoding="utf-8")
    for arch in architectures:
        _require_served(target / arch / LOCK, f"linux/{arch}")
    return any(_read(target / arch / SOURCES) for arch in architectures)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _is_source(line: str) -> bool:
    """Tell whether a requirement names the address of something else than a wheel."""
    url = Requirement(line).url
    return bool(url) and not str(url).partition("#")[0].partition("?")[0].endswith(".whl")


def _require_wheels(wanted: Requirements, *, allowed: bool) -> None:
    for line in () if allowed else wanted.wanted:
        if _is_source(line):
            raise UserError(
                f"the model requires {without_password(line)}, which is no wheel:"
                " --allow-emulated-build builds it from its source"
            )


def _write(wanted: Requirements, mlflow: str, target: Path, *, build_sources: bool) -> str:
    """Write the inputs of the resolution; return a digest of all that it depends on."""
    server = builtin().root / "docker" / "model-server" / "server.in"
    lines = list(wanted.wanted)
    if not requirements.names(lines).intersection(_MLFLOW):
        # Nothing serves a model without it, and log_model's pip_requirements may leave it out.
        lines.append(f"mlflow=={mlflow}" if mlflow else "mlflow")
    lists = {
        # The version of what is built is known when it is: the resolution gets the name.
        WANTED: [Requirement(line).name if _is_source(line) else line for line in lines]
        + server.read_text(encoding="utf-8").splitlines(),
        CONSTRAINTS: wanted.constraints,
        INDEX: wanted.sources,
    }
    for name, content in lists.items():
        # The addresses of a private index may hold a password.
        private.write(target / name, "".join(f"{line}\n" for line in content))
    whole = (*lines, "", *lists[WANTED], "", *wanted.constraints, "", *wanted.sources)
    whole = (*whole, *(wheels.put(wanted.wheels, target)))
    rest = (wanted.prereleases, build_sources, IMAGE_PYTHON, *sorted(indexes(os.environ).values()))
    return hashlib.sha256("\0".join(map(str, (*whole, *rest))).encode()).hexdigest()


def _resolve(
    wanted: Requirements,
    architectures: Sequence[str],
    target: Path,
    resolver: Resolver,
    *,
    build_sources: bool,
) -> None:
    direct = [line for line in wanted.wanted if _is_source(line)]
    sources = {arch: dict.fromkeys(direct) for arch in architectures}
    for _ in range(_MOST_ROUNDS):
        for arch, lines in sources.items():
            text = "".join(f"{line}\n" for line in lines)
            (target / arch / SOURCES).write_text(text, encoding="utf-8")
        with tempfile.TemporaryDirectory(prefix="seatrial-lock-") as folder:
            build = any(sources.values())
            out = _run(wanted, architectures, target, Path(folder), resolver, build=build)
            faults = {arch: _read(out[arch] / FAULT) for arch in architectures}
            if not any(faults.values()):
                for arch in architectures:
                    _take(out[arch], target / arch)
                return
        for arch, fault in faults.items():
            missing = _lacking(fault) if build_sources else None
            if fault and (missing is None or missing in sources[arch]):
                raise UserError(
                    f"the model's requirements cannot be met on linux/{arch}: {cause(fault)}"
                )
            if missing:
                sources[arch][missing] = None
    raise UserError(
        f"the model requires more than {_MOST_ROUNDS} distributions that are published as sources"
        " only: build wheels of them for an index of your own"
    )


def _run(
    wanted: Requirements,
    architectures: Sequence[str],
    lists: Path,
    out: Path,
    resolver: Resolver,
    *,
    build: bool,
) -> dict[str, Path]:
    """Resolve once, in a container.

    Returns:
        the folder of each architecture, below `out`.
    """
    host, console = resolver.host, make_console()
    variables = {
        "BUILD_PLATFORM": host.platform,
        "MODEL_LISTS": str(lists),
        "MODEL_SOURCES": "yes" if build else "",
    }
    chosen = catalogue.load_builtin(variables)
    images = [chosen.images[TARGET]]
    wanted_platforms = [f"linux/{arch}" for arch in architectures]
    # Nothing is loaded into the engine, so no builder is limited to one platform.
    platforms = spread(chosen, images, wanted_platforms, host, push=True)
    bases = find_bases(chosen, images, platforms, host, renew=False, console=console)
    with secrets() as hidden:
        bake.run(
            [TARGET],
            [
                *(
                    f"{name}.platform={platform}"
                    for name, built_for in platforms.items()
                    for platform in built_for
                ),
                f"{TARGET}.output=type=local,dest={out}",
                f"{TARGET}.args.PRERELEASES={'yes' if wanted.prereleases else ''}",
                # What is published changes: no resolution is taken from the builder's cache.
                f"{TARGET}.args.ATTEMPT={uuid.uuid4().hex}",
            ],
            environment(chosen.arguments, {**bases.variables, **hidden, **variables}),
            builder=resolver.builder,
            no_cache=False,
            console=console,
            project=chosen.project,
        )
    # BuildKit makes a folder for each platform where there are several.
    return {
        arch: split if (split := out / f"linux_{arch}").is_dir() else out for arch in architectures
    }


def _take(out: Path, target: Path) -> None:
    """Keep a lock without the distributions that were built, which `SOURCES` lists."""
    built = _read(out / SOURCES)
    names = requirements.names([line.partition(" --hash")[0] for line in built.splitlines()])
    blocks = re.split(r"\n(?=\S)", _read(out / LOCK).strip())
    kept = [block for block in blocks if canonicalize_name(_name(block)) not in names]
    (target / LOCK).write_text("".join(f"{block}\n" for block in kept), encoding="utf-8")
    (target / SOURCES).write_text(built, encoding="utf-8")


def _name(block: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", block)
    return match[0] if match else ""


def _lacking(fault: str) -> str | None:
    """The distribution that has no wheel, as a requirement; None where something else is wrong."""
    match = _LACKS_WHEEL.search(" ".join(fault.split()))
    return match["name"] + (match["bound"] or "") if match else None


def _require_served(lock: Path, platform: str) -> None:
    text = lock.read_text(encoding="utf-8")
    for requirement in map(Requirement, versions(text) + addresses(text)):
        if requirement.name not in _MLFLOW or requirement.url:
            continue
        (only,) = requirement.specifier
        if Version(only.version) < _FIRST_SERVED:
            raise UserError(
                f"the model requires {requirement.name} {only.version} on {platform}, and the "
                f"image needs MLflow {_FIRST_SERVED} or newer: log the model anew with that, or "
                f"raise its requirement in {requirements.FILE}"
            )


def cause(fault: str) -> str:
    """Find the reason in uv's report, on one line."""
    text = " ".join(fault.split())
    text = re.split(r" hint: |, we can conclude that ", text.rpartition(" cause: ")[2])[0]
    if _lacking(text):
        text += "; --allow-emulated-build builds it from its source, if it has one"
    text = without_password(text.removeprefix("error: "))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
