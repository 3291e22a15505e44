"""What a pull of an image transfers, with every layer compressed in the same way.

Layers come into the engine's store as they were compressed by whoever made them: with gzip in an
official image, with zstd in one that was built here. Compared as they are, half of a difference
might be the compressor's. So every layer is unpacked and compressed again.
"""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

import zstandard

from bench.figures import FOLDER, Bar, Figure, Meaning
from seatrial.build import store
from seatrial.engine.connection import native_platform
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.measuring import Stopwatch

MEGABYTES = "MB"
LEVEL = 3
"""Of zstd: its default, and BuildKit's."""
_KEPT = FOLDER / "layers.json"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Weight:
    """What the layers of one platform of an image weigh, in bytes."""

    stored: int
    """As they are in the store, with the configuration."""
    alike: int
    """Compressed again."""
    kinds: tuple[str, ...]
    """How the stored ones are compressed, such as `tar+zstd`."""


def measure(watch: Stopwatch, baseline: str, bars: Mapping[str, float]) -> list[Figure]:
    """Weigh images of the engine's own platform.

    Args:
        watch: keeps the samples.
        baseline: the reference of what they are weighed against.
        bars: the largest share of the baseline, by reference.

    Raises:
        UserError: an image is not there.
    """
    weights = {}
    for reference in (baseline, *bars):
        with watch.measure(f"weighing {reference}") as detail:
            weights[reference] = found = weigh(reference)
            detail |= {"stored": found.stored, "alike": found.alike, "layers": list(found.kinds)}
    against = weights[baseline]
    return [
        Figure(
            f"{reference}: compressed",
            MEGABYTES,
            weights[reference].alike / 1e6,
            baseline,
            against.alike / 1e6,
            Bar(share=share),
            f"all layers compressed again with zstd {LEVEL}; in the store they weigh"
            f" {weights[reference].stored / 1e6:.0f} MB"
            f" ({', '.join(sorted(set(weights[reference].kinds)))}) against"
            f" {against.stored / 1e6:.0f} MB ({', '.join(sorted(set(against.kinds)))})",
            meaning=Meaning.SHARE,
        )
        for reference, share in bars.items()
    ]


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
    known: dict[str, int] = json.loads(_KEPT.read_text()) if _KEPT.is_file() else {}
    manifest, found = _layers(reference, described.digest, known)
    known |= found
    FOLDER.mkdir(parents=True, exist_ok=True)
    _KEPT.write_text(json.dumps(known, indent=2), encoding="utf-8")
    layers = manifest["layers"]
    return Weight(
        stored=described.size,
        alike=manifest["config"]["size"] + sum(known[layer["digest"]] for layer in layers),
        kinds=tuple(str(layer["mediaType"]).rpartition(".")[2] for layer in layers),
    )


def _layers(
    reference: str, digest: str, known: Mapping[str, int]
) -> tuple[dict[str, Any], dict[str, int]]:
    """Export an image: the manifest with `digest`, and the new weight of every unknown layer."""
    manifest: dict[str, Any] = {}
    weights: dict[str, int] = {}
    with subprocess.Popen(["docker", "save", reference], stdout=subprocess.PIPE) as export:
        assert export.stdout
        with tarfile.open(fileobj=export.stdout, mode="r|") as archive:
            for member in archive:
                name = member.name.removeprefix("blobs/").replace("/", ":")
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is None or name in known:
                    continue
                content = io.BufferedReader(cast("io.RawIOBase", stream), _CHUNK)
                if name == digest:
                    manifest = json.loads(content.read())
                elif opened := opened_layer(content):
                    weights[name] = compressed(opened)
    return manifest, weights


def opened_layer(stream: io.BufferedReader[Any]) -> IO[bytes] | None:
    """Unpack a layer while it is read; None where the stream is something else."""
    start = stream.peek(4)[:4]
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    if start == b"\x28\xb5\x2f\xfd":
        return cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(stream))
    return None


def compressed(stream: IO[bytes]) -> int:
    """How many bytes the rest of `stream` takes when compressed."""
    compressor = zstandard.ZstdCompressor(level=LEVEL).compressobj()
    size = 0
    while chunk := stream.read(_CHUNK):
        size += len(compressor.compress(chunk))
    return size + len(compressor.flush())
