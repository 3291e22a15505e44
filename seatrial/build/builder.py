"""The builder that a build runs on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from seatrial import process
from seatrial.engine import connection
from seatrial.errors import UserError
from seatrial.project import command


@dataclass(frozen=True)
class Builder:
    """A BuildKit that `docker buildx` knows."""

    name: str
    driver: str
    platform: str
    """Native platform, on which its stages run without emulation."""

    @property
    def inside_engine(self) -> bool:
        """Tell if it writes into the engine's own store: several platforms, and attestations."""
        return self.driver == "docker"


def find(name: str | None) -> Builder:
    """Look a builder up.

    Args:
        name: None for the one in use.

    Raises:
        UserError: there is no such builder, or it does not answer.
    """
    native = connection.native_platform()
    try:
        done = process.run(["docker", "buildx", "inspect", *([name] if name else [])])
    except FileNotFoundError as error:
        raise UserError(
            f"there is no docker client on this machine: run {command('setup')}"
        ) from error
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1].removeprefix("ERROR: ")
        raise UserError(
            f"the builder {name or 'in use'} cannot be used: {why}; see `docker buildx ls`"
        )
    return read(done.stdout, native)


def read(inspection: str, native: str) -> Builder:
    """Read what `docker buildx inspect` prints.

    Args:
        inspection: its output.
        native: the engine's own platform, which is also that of the builder inside it.

    Raises:
        UserError: the builder does not answer, or builds for none of our platforms.
    """
    fields: dict[str, str] = {}
    for line in inspection.splitlines():
        if match := re.match(r"(\w[\w ]*):\s+(.+)", line):
            fields.setdefault(match[1], match[2].strip())
    name, driver = fields.get("Name", ""), fields.get("Driver", "")
    if driver == "docker":
        return Builder(name, driver, native)
    listed = [name.strip(" *") for name in fields.get("Platforms", "").split(",")]
    usable = [name for name in listed if name in connection.PLATFORMS]
    if not usable:
        why = fields.get("Error", f"it builds for none of {', '.join(connection.PLATFORMS)}")
        raise UserError(
            f"the builder {name} cannot be used: {why}; see `docker buildx inspect {name}`"
        )
    return Builder(name, driver, usable[0])
