"""The bill of materials of an image, as syft finds it, and what was declared.

syft looks at the files alone: Debian's databases (`/var/lib/dpkg/status`, or `status.d` of images
without dpkg) and the metadata of Python distributions.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock

from seatrial import scratch
from seatrial.errors import UserError
from seatrial.inspection.image import described, exported
from seatrial.project import current

if TYPE_CHECKING:
    from seatrial.build.store import StoredPlatform

_LARGEST_DOCUMENT = 8 * 1024 * 1024
"""Bytes: manifests and configurations are smaller."""

Kind = Literal["debian", "python"]
_KINDS: dict[str, Kind] = {"deb": "debian", "python": "python"}


@dataclass(frozen=True)
class Package:
    """A package that is in an image."""

    kind: Kind
    name: str
    version: str
    path: str
    """Where the image says so."""


def bill_of(reference: str, platform: str) -> tuple[Package, ...]:
    """Every Debian package and Python distribution in the file system of an image.

    Args:
        reference: a tag or digest that the engine knows.
        platform: such as `linux/arm64`.

    Raises:
        UserError: the engine has no such image, or syft fails.
    """
    stored = described(reference, platform)
    folder = current().kept("bills")
    kept = folder / f"{stored.digest.replace(':', '-')}.json"
    with FileLock(kept.with_suffix(".lock")):
        if not kept.is_file():
            with scratch.folder(folder) as layout:
                _lay_out(reference, stored, layout)
                packages = _scanned(reference, layout)
            partial = kept.with_suffix(".partial")
            partial.write_text(json.dumps([asdict(one) for one in packages]), encoding="utf-8")
            partial.replace(kept)
    return tuple(Package(**one) for one in json.loads(kept.read_text(encoding="utf-8")))


def _lay_out(reference: str, stored: StoredPlatform, folder: Path) -> None:
    """Write one platform of an image as an OCI layout: syft takes no index of several."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for blob in exported(reference):
        if blob.digest in stored.layers or blob.size <= _LARGEST_DOCUMENT:
            with (blobs / blob.digest.removeprefix("sha256:")).open("wb") as file:
                shutil.copyfileobj(blob.content, file)
    manifest = blobs / stored.digest.removeprefix("sha256:")
    described = {
        "mediaType": json.loads(manifest.read_bytes())["mediaType"],
        "digest": stored.digest,
        "size": manifest.stat().st_size,
    }
    index = {"schemaVersion": 2, "manifests": [described]}
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
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"syft cannot read {reference}: {' '.join(done.stderr.split())}")
    return [
        Package(
            kind=_KINDS[found["type"]],
            name=found["name"],
            version=found["version"],
            path=found["locations"][0]["path"],
        )
        for found in json.loads(done.stdout)["artifacts"]
        if found["type"] in _KINDS
    ]
