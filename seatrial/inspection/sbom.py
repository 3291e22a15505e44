"""The packages in an image (its SBOM), as syft finds them.

syft looks at the files alone: Debian's databases (`/var/lib/dpkg/status`, or `status.d` of images
without dpkg) and the metadata of Python distributions.
"""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock

from seatrial import files, process, scratch
from seatrial.engine import export
from seatrial.errors import UserError
from seatrial.inspection.layers import stored_platform
from seatrial.project import current

if TYPE_CHECKING:
    from seatrial.build.store import StoredPlatform

_LARGEST_DOCUMENT = 8 * 1024 * 1024
"""Bytes: manifests and configurations are smaller."""

Ecosystem = Literal["debian", "python"]
_ECOSYSTEMS: dict[str, Ecosystem] = {"deb": "debian", "python": "python"}


@dataclass(frozen=True)
class Package:
    """A package in an image."""

    ecosystem: Ecosystem
    name: str
    version: str
    path: str
    """File of the image that declares it."""


def read_sbom(reference: str, platform: str) -> tuple[Package, ...]:
    """Find every Debian package and Python distribution in the file system of an image.

    Args:
        reference: a tag or digest that the engine knows.
        platform: such as `linux/arm64`.

    Raises:
        UserError: the engine has no such image, or syft fails.
    """
    stored = stored_platform(reference, platform)
    folder = current().kept("sboms")
    kept = folder / f"{stored.digest.replace(':', '-')}.json"
    with FileLock(kept.with_suffix(".lock")):
        if not kept.is_file():
            with scratch.folder(folder) as layout:
                _write_layout(reference, stored, layout)
                packages = _scanned(reference, layout)
            files.write_atomically(kept, json.dumps([asdict(package) for package in packages]))
    return tuple(Package(**package) for package in json.loads(kept.read_text(encoding="utf-8")))


def _write_layout(reference: str, stored: StoredPlatform, folder: Path) -> None:
    """Write one platform of an image as an OCI layout: syft takes no index of several."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for blob in export.blobs(reference):
        if blob.digest in stored.layers or blob.size <= _LARGEST_DOCUMENT:
            with (blobs / blob.digest.removeprefix("sha256:")).open("wb") as file:
                shutil.copyfileobj(blob.content, file)
    manifest = blobs / stored.digest.removeprefix("sha256:")
    descriptor = {
        "mediaType": json.loads(manifest.read_bytes())["mediaType"],
        "digest": stored.digest,
        "size": manifest.stat().st_size,
    }
    index = {"schemaVersion": 2, "manifests": [descriptor]}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="utf-8")


def _scanned(reference: str, folder: Path) -> list[Package]:
    syft = Path(sysconfig.get_path("scripts")) / "syft"
    if not syft.is_file():
        raise UserError("syft is missing: run `pip install -r requirements.txt`")
    command = [str(syft), "scan", f"oci-dir:{folder}", "--output", "syft-json", "--quiet"]
    command += [
        "--override-default-catalogers",
        "dpkg-db-cataloger,python-installed-package-cataloger",
    ]
    environment = {**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "false"}
    done = process.run(command, environment=environment)
    if done.returncode:
        raise UserError(f"syft cannot read {reference}: {' '.join(done.stderr.split())}")
    return [
        Package(
            ecosystem=_ECOSYSTEMS[found["type"]],
            name=found["name"],
            version=found["version"],
            path=found["locations"][0]["path"],
        )
        for found in json.loads(done.stdout)["artifacts"]
        if found["type"] in _ECOSYSTEMS
    ]
