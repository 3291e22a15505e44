"""Wheels that a model brings in its folder: what their names say, and where containers find them.

A wheel is never opened on this machine: uv reads and unpacks it in a container.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from packaging.tags import Tag

FOLDER = "own"
"""The folder of a model's wheels among its lists."""
_PLACE = "${LISTS}"
"""What uv puts the folder of the lists for, in the containers that resolve and install."""
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_FORMATS = ("manylinux", "linux")


@dataclass(frozen=True)
class Wheel:
    """Content of a wheel's file name."""

    distribution: str
    tags: frozenset[Tag]

    @classmethod
    def of(cls, name: str) -> Self:
        """Read a file name.

        Raises:
            ValueError: it is no wheel's.
        """
        try:
            distribution, _, _, tags = parse_wheel_filename(name)
        except InvalidWheelFilename as error:
            raise ValueError(str(error)) from error
        return cls(distribution, tags)

    def fits(self, architecture: str, python: str) -> bool:
        """Tell whether it can be installed on an architecture, under a Python `major.minor`."""
        return any(
            _fits_platform(tag.platform, _MACHINES[architecture]) and _fits_python(tag, python)
            for tag in self.tags
        )


def address(name: str) -> str:
    """The address by which uv finds a wheel in the containers."""
    return f"file://{_PLACE}/{FOLDER}/{quote(name)}"


def put(wheels: Iterable[Path], target: Path) -> list[str]:
    """Copy wheels to the lists, in the place of those of before; give back a digest of each."""
    folder = target / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    digests = []
    for wheel in wheels:
        folder.mkdir(exist_ok=True)
        copied = shutil.copyfile(wheel, folder / wheel.name)
        with copied.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests


def require_fitting(wheels: Iterable[Path], architectures: Sequence[str], python: str) -> None:
    """See that wheels can be installed.

    Raises:
        UserError: one can't be; says which, and where.
    """
    for wheel in wheels:
        for architecture in architectures:
            if not Wheel.of(wheel.name).fits(architecture, python):
                raise UserError(
                    f"the model's wheel {wheel.name} is not for linux/{architecture} and Python"
                    f" {python}: log the model with one that is, or choose another --platform"
                )


def _fits_platform(platform: str, machine: str) -> bool:
    return platform == "any" or (platform.startswith(_FORMATS) and platform.endswith(machine))


def _fits_python(tag: Tag, python: str) -> bool:
    major, minor = python.split(".")
    if tag.interpreter in (f"py{major}", f"py{major}{minor}", f"cp{major}{minor}"):
        return True
    oldest = tag.interpreter.removeprefix(f"cp{major}")
    return tag.abi == f"abi{major}" and oldest.isdigit() and int(oldest) <= int(minor)
