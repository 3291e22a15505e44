"""Builds of `custom` for a foreign architecture: composed, against installed under emulation.

Both sides start from the same base and the same locks, have what they install downloaded already,
run every step that makes the Python environment, and put the image into the engine's store. In one
thing the baseline has the better of it: it asks no index, while composing resolves against one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.baking import distributions
from bench.figures import CPU_SECONDS, SECONDS, Bar, Figure, median_cpu, median_seconds
from seatrial.engine import connection
from seatrial.errors import UserError

if TYPE_CHECKING:
    from bench.baking import Baker
    from bench.measuring import Stopwatch

LEAST_RATIO = 10.0
VARIANT = "custom"
_AGAINST = "RUN pip install, emulated"


def measure(watch: Stopwatch, baker: Baker, repeat: int) -> list[Figure]:
    """Measure both builds.

    Args:
        watch: keeps the samples.
        baker: after a build that left nothing below the environment to do.
        repeat: how often each side is measured; the median counts.

    Raises:
        UserError: the foreign architecture is not emulated here, a build failed, or the two
            images differ in what they hold.
    """
    foreign = next(name for name in connection.PLATFORMS if name != connection.native_platform())
    connection.require_platform(foreign)
    composed = baker.settings(VARIANT, foreign)
    shared = [f"{name}.platform={foreign}" for name in ("python", "upstream")]
    compression = baker.catalogue.arguments["COMPRESSION"]
    emulated = [
        *shared,
        f"emulated.platform={foreign}",
        f"emulated.output=type=docker,compression={compression}",
    ]

    with watch.measure("downloading wheels for the emulated pip"):
        downloads = [f"download.platform={foreign}", "download.output=type=cacheonly"]
        baker.bake(["download"], [*shared, *downloads], anew=True)
    with watch.measure(f"filling uv's cache: {VARIANT} for {foreign}"):
        baker.bake([VARIANT], composed, anew=True)
    for _ in range(repeat):
        with watch.measure(f"{VARIANT} for {foreign}, composed"):
            baker.bake([VARIANT], composed, anew=True)
    ours = watch.last(repeat)
    for _ in range(repeat):
        with watch.measure(f"{VARIANT} for {foreign}, emulated"):
            baker.bake(["emulated"], emulated, anew=True)
    theirs = watch.last(repeat)
    held = _require_same(foreign)

    mine, other = median_cpu(ours), median_cpu(theirs)
    build = f"{VARIANT} for {foreign.removeprefix('linux/')}"
    return [
        Figure(
            f"{build}: CPU, whole build",
            CPU_SECONDS,
            mine.total,
            _AGAINST,
            other.total,
            Bar(ratio=LEAST_RATIO),
            f"the same {held} distributions on both sides; downloaded beforehand on both; "
            f"{mine.daemon + mine.client:.0f} of {mine.total:.0f} CPU s (emulated: "
            f"{other.daemon + other.client:.0f} of {other.total:.0f}) went into compressing and "
            "storing the image and into the client",
        ),
        Figure(f"{build}: CPU, steps only", CPU_SECONDS, mine.steps, _AGAINST, other.steps),
        Figure(f"{build}: wall", SECONDS, median_seconds(ours), _AGAINST, median_seconds(theirs)),
    ]


def _require_same(foreign: str) -> int:
    """Compare the distributions in both images, and return their number."""
    composed, emulated = (distributions(name, foreign) for name in (VARIANT, "emulated"))
    if different := sorted(composed ^ emulated):
        raise UserError(
            "the composed and the emulated image hold different distributions, so their builds "
            "can't be compared: "
            f"{', '.join(different)}"
        )
    return len(composed)
