"""Find the images that are to be tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seatrial import catalogue
from seatrial.contract import (
    DEFAULT_CONTRACT,
    MODEL_CONTRACT,
    OWN_CONTRACT,
    STOCK_CONTRACT,
    load,
)
from seatrial.engine.connection import native_platform, require_platform, resolve_platforms
from seatrial.errors import UserError
from seatrial.stack.subject import NOT_BUILT, Subject, configuration_of, pull
from seatrial.trial import serving
from seatrial.trial.promising import require_promised

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from docker import DockerClient

    from seatrial.stack.ownership import Session
    from seatrial.trial.options import TrialOptions

STOCK_ARCHITECTURE = "amd64"


def find(client: DockerClient, session: Session, options: TrialOptions) -> list[Subject]:
    """Every image on every platform that `options` ask for.

    Raises:
        UserError: a variant, a platform or an image is unknown, or not there, or none of the
            images makes a promise that is to be tried.
    """
    platforms = resolve_platforms(options.platform)
    for platform in platforms:
        require_platform(platform)
    subjects = [
        _subject(client, session, platform, *candidate)
        for candidate in _candidates(options)
        for platform in platforms
    ]
    if not (options.image or options.model_image or options.variants):
        subjects += [_built(serving.OWN, platform) for platform in platforms]
        # MLflow's own way knows one platform only.
        if (stock := f"linux/{STOCK_ARCHITECTURE}") in platforms and stock == native_platform():
            subjects.append(_built(serving.STOCK, stock))
    require_promised(subjects, options)
    return subjects


def _candidates(options: TrialOptions) -> Iterator[tuple[str, str, Path, str | None]]:
    """Name, reference, contract, and the variant to build where the image is missing."""
    if options.image:
        yield options.image, options.image, options.contract or DEFAULT_CONTRACT, None
        return
    if options.model_image:
        contract = options.contract or MODEL_CONTRACT
        yield options.model_image, options.model_image, contract, None
        return
    known = catalogue.load()
    for variant in known.select(options.variants or known.tried):
        if variant.name in known.services:
            raise UserError(f"'{variant.name}' is a service of the trial, not an MLflow image")
        yield variant.name, variant.reference, variant.contract, variant.name


def _built(name: str, platform: str) -> Subject:
    """One that the trial builds, from models that it has logged."""
    path = OWN_CONTRACT if name == serving.OWN else STOCK_CONTRACT
    return Subject.of(name, f"built by the trial: {name}", platform, path, NOT_BUILT)


def _subject(
    client: DockerClient,
    session: Session,
    platform: str,
    name: str,
    reference: str,
    contract_path: Path,
    variant: str | None,
) -> Subject:
    load(contract_path)  # a fault in it is told before anything is pulled
    configuration = configuration_of(client, session, reference, platform)
    if configuration is None and variant:
        architecture = platform.removeprefix("linux/")
        raise UserError(
            f"{reference} is not there for {platform}: run"
            f" `invoke build --variant {variant} --platform {architecture}`"
        )
    if configuration is None:
        pull(client, reference, platform)
        configuration = configuration_of(client, session, reference, platform)
    if configuration is None:
        raise UserError(f"image '{reference}' has no variant for {platform}")
    return Subject.of(name, reference, platform, contract_path, configuration)
