"""Compare the packages that an image declares beside its contract with those that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from seatrial.inspection.sbom import Package


def debian_faults(declared: Path, packages: Collection[Package]) -> list[str]:
    """Compare the names of Debian packages.

    Args:
        declared: a file with one name a line; `#` begins a comment.
        packages: of the image.

    Raises:
        UserError: the file can't be read.
    """
    wanted = {words[0] for line in _lines(declared) if (words := line.split())}
    found = {package.name: package for package in packages if package.ecosystem == "debian"}
    return [
        *(
            f"{name} is in {declared.name}, but not in the image"
            for name in sorted(wanted - set(found))
        ),
        *(_undeclared(found[name], declared) for name in sorted(set(found) - wanted)),
    ]


def python_faults(
    declared: Path,
    packages: Collection[Package],
    *,
    environment: Mapping[str, str],
    omitted: Collection[str],
) -> list[str]:
    """Compare the names and versions of Python distributions.

    Args:
        declared: a requirements file, with or without hashes.
        packages: of the image.
        environment: the values of environment markers in the image.
        omitted: distributions that are declared and left out on purpose.

    Raises:
        UserError: the file can't be read as requirements.
    """
    left_out = {canonicalize_name(name) for name in omitted}
    wanted = {
        canonicalize_name(requirement.name): requirement
        for requirement in _requirements(declared)
        if requirement.marker is None or requirement.marker.evaluate(dict(environment))
    }
    found: dict[NormalizedName, list[Package]] = {}
    for package in packages:
        if package.ecosystem == "python":
            found.setdefault(canonicalize_name(package.name), []).append(package)
    faults = [
        f"{name} is in {declared.name}, but not in the image"
        for name in sorted(set(wanted) - set(found) - left_out)
    ]
    for name, copies in sorted(found.items()):
        for package in copies:
            if name not in wanted:
                faults.append(_undeclared(package, declared))
            elif not wanted[name].specifier.contains(package.version, prereleases=True):
                faults.append(
                    f"{name} is {package.version} in {package.path},"
                    f" {declared.name} says {wanted[name].specifier}"
                )
    return faults


def _undeclared(package: Package, declared: Path) -> str:
    return (
        f"{package.name} {package.version} is in the image ({package.path}),"
        f" but not in {declared.name}"
    )


def _requirements(path: Path) -> Iterator[Requirement]:
    for line in _lines(path):
        if line.startswith("-"):
            continue
        try:
            # Hashes are options that follow the requirement.
            yield Requirement(line.partition(" --")[0])
        except InvalidRequirement as error:
            raise UserError(f"{path}: {line!r} is no requirement: {error}") from None


def _lines(path: Path) -> Iterator[str]:
    """Read the lines that have content, without comments and with continued lines joined."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read as a list of packages: {error}") from None
    for line in text.replace("\\\n", " ").splitlines():
        content = "" if line.startswith("#") else line.partition(" #")[0].strip()
        if content:
            yield content
