"""Bills of materials (SBOM) of an image in a registry, by syft, for each platform."""

from __future__ import annotations

import sysconfig
import tempfile
from pathlib import Path

from seatrial import process
from seatrial.errors import UserError, printable
from seatrial.registry.attaching import Attachment

PLATFORM = "io.seatrial.platform"
"""Annotation of an attachment that is about one platform."""
FORMATS = {
    "spdx-json": "application/spdx+json",
    "cyclonedx-json": "application/vnd.cyclonedx+json",
}
"""Media types by syft's names of its formats."""


def make(image: str, platform: str) -> list[Attachment]:
    """List what is in an image, in each of `FORMATS`.

    Args:
        image: `HOST/NAME@sha256:DIGEST`.
        platform: such as `linux/arm64`.

    Raises:
        UserError: syft is not there, or can't read the image.
    """
    syft = Path(sysconfig.get_path("scripts")) / "syft"
    if not syft.is_file():
        raise UserError("syft is missing: run `pip install -r requirements.txt`")
    words = [str(syft), "scan", f"registry:{image}", "--platform", platform, "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            words += ["--output", f"{name}={folder}/{name}"]
        done = process.run(words)
        if done.returncode:
            said = printable(done.stderr)[-300:]
            raise UserError(f"syft can't read {image} for {platform}: {said}")
        return [
            Attachment(media_type, (Path(folder) / name).read_bytes(), {PLATFORM: platform})
            for name, media_type in FORMATS.items()
        ]
