"""What an image takes: on a disk, and in a pull, with every layer compressed in the same way.

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
_KEPT = FOLDER / "weights.json"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Weight:
    """What the layers of one platform of an image weigh, in bytes."""

    stored: int
    """As they are in the store, with the configuration."""
    alike: int
    """Compressed again."""
    unpacked: int
    """As archives that are not compressed."""
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
            "layers": list(found.kinds),
        }
    return found


def transferred(
    name: str, weight: Weight, baseline: str, against: Weight, bar: Bar | None
) -> Figure:
    """Set what a pull of an image transfers against that of another."""
    return Figure(
        f"{name}: compressed",
        MEGABYTES,
        weight.alike / 1e6,
        baseline,
        against.alike / 1e6,
        bar,
        f"all layers compressed again with zstd {LEVEL}; in the store they weigh"
        f" {weight.stored / 1e6:.0f} MB ({', '.join(sorted(set(weight.kinds)))}) against"
        f" {against.stored / 1e6:.0f} MB ({', '.join(sorted(set(against.kinds)))})",
        meaning=Meaning.SHARE,
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
    manifest, found = _layers(reference, described.digest, known)
    known |= found
    FOLDER.mkdir(parents=True, exist_ok=True)
    _KEPT.write_text(json.dumps(known, indent=2), encoding="utf-8")
    layers = manifest["layers"]
    return Weight(
        stored=described.size,
        alike=manifest["config"]["size"] + sum(known[layer["digest"]][0] for layer in layers),
        unpacked=manifest["config"]["size"] + sum(known[layer["digest"]][1] for layer in layers),
        kinds=tuple(str(layer["mediaType"]).rpartition(".")[2] for layer in layers),
    )


def _layers(
    reference: str, digest: str, known: Mapping[str, list[int]]
) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Export an image: the manifest with `digest`, and both weights of every unknown layer."""
    manifest: dict[str, Any] = {}
    weights: dict[str, list[int]] = {}
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
                    weights[name] = list(compressed(opened))
    return manifest, weights


def opened_layer(stream: io.BufferedReader[Any]) -> IO[bytes] | None:
    """Unpack a layer while it is read; None where the stream is something else."""
    start = stream.peek(4)[:4]
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    if start == b"\x28\xb5\x2f\xfd":
        return cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(stream))
    return None


def compressed(stream: IO[bytes]) -> tuple[int, int]:
    """How many bytes the rest of `stream` takes when compressed, and as it is."""
    compressor = zstandard.ZstdCompressor(level=LEVEL).compressobj()
    size = whole = 0
    while chunk := stream.read(_CHUNK):
        whole += len(chunk)
        size += len(compressor.compress(chunk))
    return size + len(compressor.flush()), whole
