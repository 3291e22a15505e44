"""Sources of the images under test: the catalogue, a reference, or a build of the trial.

The contracts are read here, which takes no engine; `find` asks the engine for the image itself.
"""

from __future__ import annotations

import platform as machine
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from seatrial import catalogue
from seatrial.contract import (
    DEFAULT_CONTRACT,
    MLFLOW_MODEL_CONTRACT,
    MODEL_CONTRACT,
    SEATRIAL_MODEL_CONTRACT,
    Contract,
    load,
    promises_of,
)
from seatrial.engine.connection import PLATFORMS, native_platform, resolve_platforms
from seatrial.errors import UserError
from seatrial.project import command, current
from seatrial.stack.image_under_test import (
    NOT_BUILT,
    ImageConfiguration,
    ImageUnderTest,
    configuration_of,
    pull,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from docker import DockerClient

    from seatrial.stack.labels import Session
    from seatrial.trial.options import TrialOptions

SEATRIAL_MODEL, MLFLOW_MODEL = "seatrial-model", "mlflow-model"
"""Images of models that the trial builds: by `invoke model` and by `mlflow models build-docker`."""
MLFLOW_MODEL_PLATFORM = "linux/amd64"
"""The only platform that `mlflow models build-docker` builds for."""
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class ImageSource(ABC):
    """An image that is to be tried on one platform, before anybody has looked at it."""

    name: str
    """The variant, or the reference where the image is not of the catalogue."""
    reference: str
    platform: str
    native: bool
    contract_path: Path
    contract: Contract

    built_by_trial: ClassVar[bool] = False
    """Whether the trial builds the image when a test asks for it."""

    @classmethod
    def of(cls, name: str, reference: str, platform: str, native: str, contract_path: Path) -> Self:
        """The source of an image with the contract of that file.

        Raises:
            UserError: there is no such contract, or it is none.
        """
        return cls(
            name=name,
            reference=reference,
            platform=platform,
            native=platform == native,
            contract_path=contract_path,
            contract=load(contract_path),
        )

    @property
    def label(self) -> str:
        """Name in tests and reports, such as `custom-amd64`."""
        return f"{self.name}-{self.platform.removeprefix('linux/')}"

    @abstractmethod
    def find(self, client: DockerClient, session: Session) -> ImageConfiguration:
        """Ask the engine for the image's configuration.

        Raises:
            UserError: the image is not there.
        """

    def image(
        self, configuration: ImageConfiguration, overlay: Path | None = None
    ) -> ImageUnderTest:
        """The image under test, with what `find` gave, and files in place of its own."""
        return ImageUnderTest(
            name=self.name,
            reference=self.reference,
            platform=self.platform,
            native=self.native,
            contract_path=self.contract_path,
            contract=self.contract,
            configuration=configuration,
            overlay=overlay,
        )

    def as_json(self) -> dict[str, Any]:
        """The source as JSON, for another process; see `from_json`."""
        return {
            "type": type(self).__name__,
            "name": self.name,
            "reference": self.reference,
            "platform": self.platform,
            "native": self.native,
            "contract_path": str(self.contract_path),
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> ImageSource:
        """The source that `as_json` wrote."""
        path = Path(value["contract_path"])
        arguments = {**value, "contract_path": path, "contract": load(path)}
        return _TYPES[arguments.pop("type")](**arguments)


@dataclass(frozen=True)
class CatalogueImage(ImageSource):
    """A variant of the catalogue, built on this machine."""

    def find(self, client: DockerClient, session: Session) -> ImageConfiguration:
        """Look into the engine's store; a variant is never pulled."""
        found = configuration_of(client, session, self.reference, self.platform)
        if found is None:
            architecture = self.platform.removeprefix("linux/")
            build = command(f"build --variant {self.name} --platform {architecture}")
            raise UserError(f"{self.reference} is not there for {self.platform}: run {build}")
        return found


@dataclass(frozen=True)
class ReferencedImage(ImageSource):
    """An image that somebody names, whoever has built it."""

    def find(self, client: DockerClient, session: Session) -> ImageConfiguration:
        """Look into the engine's store, and pull the image where it is not in there."""
        found = configuration_of(client, session, self.reference, self.platform)
        if found is None:
            pull(client, self.reference, self.platform)
            found = configuration_of(client, session, self.reference, self.platform)
        if found is None:
            raise UserError(f"image '{self.reference}' has no variant for {self.platform}")
        return found


@dataclass(frozen=True)
class ModelImage(ImageSource):
    """Images of models that the trial builds, one for each model that it has logged."""

    built_by_trial = True

    def find(self, client: DockerClient, session: Session) -> ImageConfiguration:  # noqa: ARG002
        """Find nothing: the trial builds these images when a test asks for one."""
        return NOT_BUILT


_TYPES: dict[str, Callable[..., ImageSource]] = {
    source.__name__: source for source in (CatalogueImage, ReferencedImage, ModelImage)
}


def plan(options: TrialOptions) -> list[ImageSource]:
    """Every image on every platform that `options` ask for.

    Raises:
        UserError: a variant or a platform is unknown, a contract is wrong, or none of the images
            makes a promise that is to be tried.
    """
    native = _native_platform()
    platforms = (native,) if options.platform == "native" else resolve_platforms(options.platform)
    sources = [
        source(name, reference, platform, native, contract)
        for source, name, reference, contract in _candidates(options)
        for platform in platforms
    ]
    named = options.image or options.model_image or options.variants
    if not named and current().has_services:
        sources += [
            ModelImage.of(
                SEATRIAL_MODEL,
                "images of models, built by `invoke model`",
                platform,
                native,
                SEATRIAL_MODEL_CONTRACT,
            )
            for platform in platforms
        ]
        if MLFLOW_MODEL_PLATFORM in platforms and native == MLFLOW_MODEL_PLATFORM:
            reference = "images of models, built by `mlflow models build-docker`"
            sources.append(
                ModelImage.of(MLFLOW_MODEL, reference, native, native, MLFLOW_MODEL_CONTRACT)
            )
    require_promised(sources, options)
    return sources


def _native_platform() -> str:
    """The engine's own platform; that of this machine where no engine answers, as for a listing."""
    try:
        return native_platform()
    except UserError:
        platform = f"linux/{_ARCHITECTURES.get(machine.machine().lower())}"
        if platform not in PLATFORMS:
            raise
        return platform


def _candidates(
    options: TrialOptions,
) -> Iterator[tuple[Callable[..., ImageSource], str, str, Path]]:
    """Type of the source, name, reference and contract."""
    if options.image:
        contract = options.contract or DEFAULT_CONTRACT
        yield ReferencedImage.of, options.image, options.image, contract
        return
    if options.model_image:
        contract = options.contract or MODEL_CONTRACT
        yield ReferencedImage.of, options.model_image, options.model_image, contract
        return
    known = catalogue.load()
    for variant in known.select(options.variants or known.tried):
        if variant.name in known.services:
            raise UserError(f"'{variant.name}' is a service of the trial, not an MLflow image")
        yield CatalogueImage.of, variant.name, variant.reference, variant.contract


def require_promised(sources: Sequence[ImageSource], options: TrialOptions) -> None:
    """Refuse to look for a promise that no image under test makes.

    Raises:
        UserError: naming it.
    """
    made = [promise for source in sources for promise in promises_of(source.contract)]
    for selector in options.promises:
        if not any(selector.covers(promise) for promise in made):
            others = [str(promise) for promise in made if promise.key == selector.key]
            names = ", ".join(source.label for source in sources)
            raise UserError(
                f"{names}: {selector} is not promised"
                + (f", only {', '.join(others)}" if others else "")
            )
