"""`invoke build` with nothing changed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bench.baking import REGISTRY
from bench.figures import SECONDS, Bar, Figure, median_seconds

if TYPE_CHECKING:
    from bench.baking import Baker
    from bench.measuring import Stopwatch
    from bench.runner import Runner

LIMIT = 20.0
REPEAT = 3

_VARIANT = "custom"


def build(runner: Runner, *options: str) -> None:
    """Run `invoke build` under the measurements' registry.

    Raises:
        UserError: it failed.
    """
    own = ("--arg", f"REGISTRY={REGISTRY}")
    runner.run([sys.executable, "-m", "invoke", "build", *own, *options])


def measure(watch: Stopwatch, runner: Runner, baker: Baker) -> list[Figure]:
    """Measure `invoke build` against bake alone, its lower bound.

    Args:
        watch: keeps the samples.
        runner: runs `invoke build`.
        baker: after a build of everything for every platform.
    """
    images = [baker.catalogue.images[name] for name in baker.catalogue.default]
    settings = [
        setting
        for image in (*images, *baker.catalogue.services.values())
        for setting in baker.settings(image.name, *image.platforms)
    ]
    targets = [image.name for image in (*images, *baker.catalogue.services.values())]
    with watch.measure("bake alone, to have its own labels in the cache"):
        baker.bake(targets, settings)
    for _ in range(REPEAT):
        with watch.measure("bake alone, nothing changed"):
            baker.bake(targets, settings)
    floor = median_seconds(watch.last(REPEAT))
    figures = []
    for platform in ("native", "all"):
        with watch.measure(f"invoke build --platform {platform}, to have it in the store"):
            build(runner, "--platform", platform)
        for _ in range(REPEAT):
            with watch.measure(f"invoke build --platform {platform}, nothing changed"):
                build(runner, "--platform", platform)
        figures.append(
            Figure(
                f"warm invoke build, {platform} platforms",
                SECONDS,
                median_seconds(watch.last(REPEAT)),
                "bake alone, all platforms",
                floor,
                Bar(value=LIMIT),
            )
        )
    return figures


def measure_cold(watch: Stopwatch, runner: Runner, baker: Baker) -> Figure:
    """Measure the warm build of `custom` against one that makes its Python environment anew.

    What is below the environment and the downloads stay: ignoring the cache altogether would throw
    the downloads of every build on this engine away.
    """
    settings = baker.settings(_VARIANT, baker.builder.platform)
    with watch.measure(f"{_VARIANT}, environment anew"):
        baker.bake([_VARIANT], settings, anew=True)
    cold = median_seconds(watch.last(1))
    with watch.measure(f"invoke build --variant {_VARIANT}, to have it in the store"):
        build(runner, "--variant", _VARIANT)
    for _ in range(REPEAT):
        with watch.measure(f"invoke build --variant {_VARIANT}, nothing changed"):
            build(runner, "--variant", _VARIANT)
    return Figure(
        f"warm invoke build, {_VARIANT} native",
        SECONDS,
        median_seconds(watch.last(REPEAT)),
        "environment made anew",
        cold,
        Bar(value=LIMIT),
        "the baseline kept Debian, Python and the downloads",
    )
