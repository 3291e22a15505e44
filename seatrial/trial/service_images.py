"""The images of the services: those that were named, or those that are built from our folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seatrial import catalogue
from seatrial.engine.connection import native_platform
from seatrial.errors import UserError
from seatrial.project import builtin, command, current
from seatrial.stack.image_under_test import pull

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from docker import DockerClient

    from seatrial.catalogue import Catalogue, Image


def references(
    client: DockerClient, names: Iterable[str], given: Mapping[str, str]
) -> dict[str, str]:
    """Find the image of each service in the engine.

    Args:
        client: the engine.
        names: of services in the catalogue.
        given: references in the place of the catalogue's, by the service's name; pulled where the
            engine has not got them.

    Raises:
        UserError: one is not there.
    """
    known = catalogue.load_builtin()
    found = {}
    for name in names:
        found[name] = given.get(name) or known.service(name).reference
        if client.images.list(found[name]):
            continue
        if name not in given:
            build = command(f"build --variant {name}")
            raise UserError(f"{found[name]} is not there: run {build}")
        pull(client, found[name], native_platform())
    return found


def build_missing(client: DockerClient, names: Iterable[str], given: Mapping[str, str]) -> None:
    """Build the services that are not there, outside the repository whose folders they have.

    In that repository it is `invoke build` that makes them.

    Raises:
        UserError: one can't be built.
    """
    if builtin() == current():
        return
    known = catalogue.load_builtin({"BUILD_PLATFORM": native_platform()})
    if missing := _missing(client, known, names, given):
        from seatrial.build import build, builder

        build.make(
            build.Order(
                chosen=known,
                images=missing,
                platforms=(native_platform(),),
                host=builder.find(None),
                weigh=False,
            )
        )


def _missing(
    client: DockerClient, known: Catalogue, names: Iterable[str], given: Mapping[str, str]
) -> list[Image]:
    services = [known.service(name) for name in names if name not in given]
    return [service for service in services if not client.images.list(service.reference)]
