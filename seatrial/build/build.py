"""`invoke build`: the choice of images and bases, the build, and its record."""

from __future__ import annotations

import errno
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from seatrial import catalogue
from seatrial.build import bake, bootstrap, network, progress, record, revision, store, table
from seatrial.build.builder import Builder, find
from seatrial.catalogue.bake_file import environment
from seatrial.console import make_console
from seatrial.engine import connection, registries
from seatrial.errors import UserError
from seatrial.project import current

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console

    from seatrial.catalogue import Catalogue, Image

COMPRESSION = "zstd"
"""Compression of layers, unless a catalogue sets its own."""
DEBIAN = "debian:trixie-slim"
OFFICIAL = "ghcr.io/mlflow/mlflow"


@dataclass(frozen=True)
class Bases:
    """Base images of a build."""

    debian: str
    """Reference with digest; empty where it was bootstrapped."""
    debian_digest: str
    mlflow: str
    """Reference with digest; empty for the stand-in."""

    @property
    def variables(self) -> dict[str, str]:
        """Variables of the bake file for the bases."""
        return {
            "DEBIAN_IMAGE": self.debian,
            "DEBIAN_DIGEST": self.debian_digest,
            "MLFLOW_IMAGE": self.mlflow,
            "MLFLOW_DIGEST": self.mlflow.partition("@")[2],
        }


def run(
    *,
    variants: Sequence[str] = (),
    arguments: Sequence[str] = (),
    platform: str = "native",
    builder: str | None = None,
    no_cache: bool = False,
    push: bool = False,
) -> list[record.Made]:
    """Build variants, and without a name the services as well; show a table of the results.

    Args:
        variants: names of the catalogue; none for the default variants and the services.
        arguments: `NAME=VALUE` for variables of the catalogue.
        platform: native, amd64, arm64 or all; services are always the builder's own.
        builder: one that `docker buildx ls` lists; None for the one in use.
        no_cache: build every layer anew, and a bootstrapped base too.
        push: push to the registry that the tags name.

    Returns:
        The built images, per platform.

    Raises:
        UserError: an option is wrong, or a step failed.
    """
    given = parse(arguments)
    current().require_bake_file()
    host = find(builder)
    chosen = catalogue.load(given, {"BUILD_PLATFORM": host.platform})
    images = chosen.select(variants)
    if not variants:
        images += chosen.services.values()
    with report_full_disk():
        return make(
            Order(
                chosen=chosen,
                images=images,
                platforms=connection.resolve_platforms(platform),
                host=host,
                builder=builder,
                no_cache=no_cache,
                push=push,
            )
        )


@contextmanager
def report_full_disk() -> Iterator[None]:
    """Turn a full disk into an error of one line.

    Raises:
        UserError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(f"the disk is full: {error.filename or tempfile.gettempdir()}") from error


@dataclass(frozen=True)
class Order:
    """Images to build, and options of the build."""

    chosen: Catalogue
    images: Sequence[Image]
    platforms: Sequence[str]
    """Wanted platforms; services always get the builder's own."""
    host: Builder
    builder: str | None = None
    """Name of a builder other than the one in use."""
    no_cache: bool = False
    push: bool = False
    weigh: bool = True
    """Read the size of each image: takes seconds for each hundred megabytes."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further variables of the bake file."""


def make(order: Order) -> list[record.Made]:
    """Build images, record the results and show them.

    Raises:
        UserError: a step failed.
    """
    console = make_console()
    started, clock = datetime.now(UTC), time.monotonic()
    chosen, images, host = order.chosen, order.images, order.host
    platforms = spread(chosen, images, order.platforms, host, push=order.push)
    bases = find_bases(chosen, images, platforms, host, renew=order.no_cache, console=console)
    source = revision.of(chosen.project)
    compression = chosen.arguments.get("COMPRESSION", COMPRESSION)
    with network.secrets() as secrets:
        variables = environment(
            chosen.arguments,
            {
                **bases.variables,
                **secrets,
                **order.variables,
                "BUILD_PLATFORM": host.platform,
                **source.variables,
            },
        )
        baked = bake.run(
            [image.name for image in images],
            settings(platforms, images, host, compression, push=order.push),
            variables,
            builder=order.builder,
            no_cache=order.no_cache,
            console=console,
            project=chosen.project,
        )
    made = [
        entry for image in images for entry in _made(order, image, platforms[image.name], baked)
    ]
    seconds = time.monotonic() - clock
    record.write(
        record.BuildRecord(
            started=started.isoformat(timespec="seconds"),
            seconds=round(seconds, 1),
            builder=host,
            revision=source.commit,
            arguments=chosen.arguments,
            bases=bases.variables,
            images=made,
        )
    )
    console.print(table.of_build(made, seconds))
    if chosen.project.has_services and any(entry.stand_in for entry in made):
        console.print(f"{OFFICIAL} does not answer: a stand-in of the same version took its place")
    return made


def parse(arguments: Iterable[str]) -> dict[str, str]:
    """Read `NAME=VALUE`.

    Raises:
        UserError: an argument is malformed.
    """
    parsed = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name:
            raise UserError(f"--arg {argument!r} is not NAME=VALUE, such as BOTO3_VERSION=1.40.0")
        parsed[name.strip()] = value.strip()
    return parsed


def spread(
    chosen: Catalogue,
    images: Sequence[Image],
    wanted: Sequence[str],
    host: Builder,
    *,
    push: bool,
) -> dict[str, tuple[str, ...]]:
    """Choose the platforms of every target that takes part.

    Raises:
        UserError: an image is not made for any of the wanted platforms, or the builder cannot
            bring the result into the engine.
    """
    platforms: dict[str, tuple[str, ...]] = {}
    for image in images:
        own = image.platforms if image.name in chosen.services else wanted
        platforms[image.name] = tuple(name for name in own if name in image.platforms)
        if not platforms[image.name]:
            raise UserError(
                f"{image.name} is not made for {', '.join(wanted)}, "
                f"only for {', '.join(image.platforms)}"
            )
        if len(platforms[image.name]) > 1 and not (host.inside_engine or push):
            raise UserError(
                f"the builder {host.name} ({host.driver}) can load one platform at a time into "
                "the engine: name one with --platform, or use --push"
            )
    built = {image.name for image in images}
    parts = [chosen.images[name] for name in chosen.needed(images) - built]
    # A part that is made for the builder alone has no choice, and needs its own parts there.
    alone = [part for part in parts if len(part.platforms) == 1]
    for image in (*images, *alone):
        own = platforms.get(image.name, image.platforms)
        for name in chosen.needed([image]) - built:
            part = chosen.images[name]
            if len(part.platforms) > 1:
                wider = {*platforms.get(name, ()), *own}
                platforms[name] = tuple(
                    platform for platform in part.platforms if platform in wider
                )
    return platforms


def settings(
    platforms: Mapping[str, Sequence[str]],
    images: Sequence[Image],
    host: Builder,
    compression: str,
    *,
    push: bool,
) -> list[str]:
    """Word bake's settings: platforms, output and compression of each image."""
    result = [
        f"{name}.platform={platform}" for name, chosen in platforms.items() for platform in chosen
    ]
    for image in images:
        if push:
            result.append(f"{image.name}.output=type=image,push=true,compression={compression}")
        elif host.inside_engine:
            result.append(f"{image.name}.output=type=docker,compression={compression}")
        else:
            # The archive in which such a builder hands an image over cannot hold attestations, and
            # without them has media types that know gzip only.
            result.append(f"{image.name}.output=type=docker")
            result.append(f"{image.name}.attest=type=provenance,disabled=true")
    return result


def find_bases(
    chosen: Catalogue,
    images: Sequence[Image],
    platforms: Mapping[str, Sequence[str]],
    host: Builder,
    *,
    renew: bool,
    console: Console,
) -> Bases:
    """Find the base images: in a registry, or bootstrapped where none answers.

    Args:
        chosen: the catalogue.
        images: what is built.
        platforms: of each target that takes part, as `spread` chooses them.
        host: the builder.
        renew: bootstrap again.
        console: where the progress goes.

    Raises:
        UserError: no registry answers, and Debian can't be bootstrapped.
    """
    if not chosen.project.has_services:
        return Bases("", "", "")  # a repository's own images name their bases
    needed = chosen.needed(images)
    version = chosen.arguments["MLFLOW_VERSION"]
    official = registries.resolve(f"{OFFICIAL}:v{version}") if "upstream" in needed else None
    debian = registries.resolve(DEBIAN)
    if debian:
        return Bases(debian, debian.partition("@")[2], official or "")
    made = {}
    for platform in dict.fromkeys((host.platform, *platforms.get("system", ()))):
        with console.status(f"making {DEBIAN} for {platform} from Debian's packages (once)"):
            made[platform] = bootstrap.ensure(platform.partition("/")[2], renew=renew)
    return Bases("", made[host.platform].digest, official or "")


def _made(
    order: Order, image: Image, platforms: Sequence[str], baked: bake.Baked
) -> list[record.Made]:
    index = baked.digests.get(image.name, "")
    parts = order.chosen.needed([image])
    held = {stored.platform: stored for stored in _held(order, image, baked, index)}
    made = []
    for platform in platforms:
        steps = baked.build.of(parts, platform)
        entry = held.get(platform)
        made.append(
            record.Made(
                name=image.name,
                reference=image.reference,
                index=index,
                platform=platform,
                digest=entry.digest if entry else "",
                size=entry.size if entry else 0,
                stand_in=bool(entry and entry.labels.get("io.seatrial.stand-in") == "true"),
                seconds=round(progress.busy_seconds(steps), 1),
                cached=progress.cached(steps),
            )
        )
    return made


def _held(
    order: Order, image: Image, baked: bake.Baked, index: str
) -> tuple[store.StoredPlatform, ...]:
    """Read the platforms of an image that was just built."""
    if known := store.recall(baked.build.manifests(image.name)):
        return known
    if not order.weigh:
        return ()
    stored = store.read(image.reference)
    # A builder elsewhere that pushed has put nothing into this engine's store.
    here = stored and (order.host.inside_engine or stored.digest == index)
    return stored.platforms if stored and here else ()
