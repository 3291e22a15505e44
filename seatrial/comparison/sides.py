"""An image to compare: what is in it, and what it promises."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seatrial import catalogue
from seatrial.contract import load, promises_of
from seatrial.errors import UserError, without_password
from seatrial.inspection.layers import stored_platform
from seatrial.inspection.sbom import read_sbom
from seatrial.registry.copying import EngineImage
from seatrial.release import record as records

if TYPE_CHECKING:
    from seatrial.build.store import StoredPlatform

_SECRET = re.compile(r"passw|secret|token|credential|api_?key|private", re.IGNORECASE)
_PLAIN = ("User", "WorkingDir", "StopSignal", "Entrypoint", "Cmd", "Healthcheck", "Shell")
_TABLES = ("ExposedPorts", "Volumes")


@dataclass(frozen=True)
class ComparedImage:
    """One side of a comparison."""

    reference: str
    stored: StoredPlatform
    layers: dict[str, int]
    """Bytes of each layer by its digest, the lowest first."""
    promises: dict[str, str]
    """Value or verdict by the promise's name."""
    packages: dict[str, dict[str, str]]
    """Versions by ecosystem and name."""

    @property
    def settings(self) -> dict[str, str]:
        """The image's configuration, each setting as text; values of secrets are hidden."""
        config = self.stored.config
        found = {name: _text(config[name]) for name in _PLAIN if config.get(name)}
        for table in _TABLES:
            found |= {f"{table} {key}": "" for key in config.get(table) or {}}
        for line in config.get("Env") or []:
            name, _, value = str(line).partition("=")
            found[f"Env {name}"] = "(hidden)" if _SECRET.search(name) else without_password(value)
        found |= {f"label {name}": value for name, value in self.stored.labels.items()}
        return found


def read(given: str, platform: str, contract: str) -> ComparedImage:
    """Read an image of the engine's store.

    Args:
        given: its reference, or the file of a qualification record, which names it.
        platform: such as `linux/arm64`.
        contract: its file; empty for that of the variant with this reference, or for none.

    Raises:
        UserError: there is no such image, record or contract.
    """
    promises: dict[str, str] = {}
    reference = given
    if given.endswith(".json"):
        trials = records.read(Path(given)).trials
        images = [image for trial in trials for image in trial.images]
        reference = images[0].reference
        promises = {
            result.name: result.verdict.value
            for image in images
            if image.platform == platform
            for result in image.promises
        }
    elif found := contract or _contract_of(reference):
        promises = {str(each): _text(each.value) for each in promises_of(load(Path(found)))}
    stored = stored_platform(reference, platform)
    return ComparedImage(
        reference, stored, _layers(reference, stored), promises, _packages(reference, platform)
    )


def _contract_of(reference: str) -> str:
    for image in catalogue.load().variants.values():
        if (
            reference.partition("@")[0] in image.tags
            or reference.partition(":")[0] == (image.reference.partition(":")[0])
        ):
            return str(image.contract)
    return ""


def _layers(reference: str, stored: StoredPlatform) -> dict[str, int]:
    manifest = EngineImage(reference).manifest(stored.digest)
    if manifest is None:
        raise UserError(f"{reference}: the engine does not give the manifest {stored.digest}")
    return {layer["digest"]: layer["size"] for layer in manifest.document["layers"]}


def _packages(reference: str, platform: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {"debian": {}, "python": {}}
    for package in read_sbom(reference, platform):
        found[package.ecosystem][package.name] = package.version
    return found


def _text(value: Any) -> str:  # noqa: ANN401 - of a contract or a configuration
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
