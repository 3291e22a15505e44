"""Sizes of images, on disk and in a pull, with every layer compressed in the same way.

Official images have layers compressed with gzip, images built here with zstd. The compressor could
account for half of a difference, so every layer is unpacked and compressed again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import zstandard

from bench.figures import FOLDER, Bar, Figure, share_figure
from seatrial import files
from seatrial.build import store
from seatrial.engine import export
from seatrial.engine.connection import native_platform
from seatrial.errors import UserError
from seatrial.inspection.layer import decompressed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.measuring import Stopwatch
    from seatrial.build.store import StoredPlatform

MEGABYTES = "MB"
LEVEL = 3
"""Level of zstd: its default, and BuildKit's."""
_KEPT = FOLDER / "weights.json"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Weight:
    """Sizes of an image's layers on one platform, in bytes."""

    stored: int
    """Size in the store, with the configuration."""
    alike: int
    """Size after compression with zstd."""
    unpacked: int
    """Size of the uncompressed archives."""
    formats: tuple[str, ...]
    """Formats in the store, such as `tar+zstd`."""


def measure(watch: Stopwatch, baseline: str, bars: Mapping[str, float]) -> list[Figure]:
    """Weigh images of the engine's own platform.

    Args:
        watch: keeps the samples.
        baseline: the reference of what they are weighed against.
        bars: the largest share of the baseline, by reference.

    Raises:
        UserError: an image is not there.
    """
    weights = {reference: weighed(watch, reference) for reference in (baseline, *bars)}
    return [
        transferred(reference, weights[reference], baseline, weights[baseline], Bar(share=share))
        for reference, share in bars.items()
    ]


def weighed(watch: Stopwatch, reference: str) -> Weight:
    """Weigh one image, and keep the sample.

    Raises:
        UserError: it is not there.
    """
    with watch.measure(f"weighing {reference}") as detail:
        found = weigh(reference)
        detail |= {
            "stored": found.stored,
            "alike": found.alike,
            "unpacked": found.unpacked,
            "layers": list(found.formats),
        }
    return found


def transferred(
    name: str, weight: Weight, baseline: str, against: Weight, bar: Bar | None
) -> Figure:
    """Compare the transfer of two images in a pull."""
    return share_figure(
        f"{name}: compressed",
        MEGABYTES,
        weight.alike / 1e6,
        baseline,
        against.alike / 1e6,
        bar,
        f"all layers compressed again with zstd {LEVEL}; in the store they weigh"
        f" {weight.stored / 1e6:.0f} MB ({', '.join(sorted(set(weight.formats)))}) against"
        f" {against.stored / 1e6:.0f} MB ({', '.join(sorted(set(against.formats)))})",
    )


def weigh(reference: str) -> Weight:
    """Weigh one image.

    Raises:
        UserError: it is not there for the engine's platform.
    """
    platform = native_platform()
    image = store.read(reference)
    described = image.platform(platform) if image else None
    if image is None or described is None:
        name = reference.rpartition("/")[2].partition(":")[0]
        raise UserError(
            f"{reference} is not there for {platform}: run `invoke build --variant {name}`"
        )
    known: dict[str, list[int]] = json.loads(_KEPT.read_text()) if _KEPT.is_file() else {}
    manifest, found = _layers(reference, described, known)
    known |= found
    FOLDER.mkdir(parents=True, exist_ok=True)
    files.write_atomically(_KEPT, json.dumps(known, indent=2))
    layers = manifest["layers"]
    return Weight(
        stored=described.size,
        alike=manifest["config"]["size"] + sum(known[layer["digest"]][0] for layer in layers),
        unpacked=manifest["config"]["size"] + sum(known[layer["digest"]][1] for layer in layers),
        formats=tuple(str(layer["mediaType"]).rpartition(".")[2] for layer in layers),
    )


def _layers(
    reference: str, platform: StoredPlatform, known: Mapping[str, list[int]]
) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Export an image; read the platform's manifest and both weights of its unknown layers."""
    manifest: dict[str, Any] = {}
    weights: dict[str, list[int]] = {}
    for blob in export.blobs(reference):
        if blob.digest == platform.digest:
            manifest = json.loads(blob.content.read())
        elif blob.digest in platform.layers and blob.digest not in known:
            weights[blob.digest] = list(compressed(decompressed(blob.content)))
    return manifest, weights


def compressed(stream: IO[bytes]) -> tuple[int, int]:
    """Count the bytes of the rest of `stream`, compressed and as it is."""
    compressor = zstandard.ZstdCompressor(level=LEVEL).compressobj()
    size = whole = 0
    while chunk := stream.read(_CHUNK):
        whole += len(chunk)
        size += len(compressor.compress(chunk))
    return size + len(compressor.flush()), whole
