"""The trial's options on pytest's command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from seatrial.contract import Claim
from seatrial.errors import UserError

if TYPE_CHECKING:
    import pytest

PLATFORM_CHOICES = "native, amd64, arm64 or all"


def add(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("seatrial", "the trial of MLflow images")
    group.addoption(
        "--variant",
        action="append",
        default=[],
        help="a variant of the catalogue; may be given more than once (default: its group 'tried')",
    )
    group.addoption("--platform", default="native", help=PLATFORM_CHOICES)
    group.addoption("--image", help="a reference: try this image, which is not of the catalogue")
    group.addoption("--contract", type=Path, help="the contract of --image or --model-image")
    group.addoption(
        "--model-image", help="a reference: try this image, which serves the model --model-uri"
    )
    group.addoption("--model-uri", help="the model of --model-image: it needs an input example")
    group.addoption(
        "--stack",
        default="full",
        help="full: PostgreSQL and MinIO. embedded: SQLite and a volume, no other service",
    )
    group.addoption(
        "--promise",
        action="append",
        default=[],
        metavar="KEY[ITEM]",
        help="only tests of this promise, such as server.databases[sqlite], or of every item of"
        " KEY; may be given more than once",
    )


@dataclass(frozen=True)
class TrialOptions:
    """What was asked for."""

    variants: tuple[str, ...]
    platform: str
    image: str | None
    contract: Path | None
    stack: Literal["full", "embedded"]
    model_image: str | None = None
    model_uri: str | None = None
    promises: tuple[Claim, ...] = ()
    """Only tests that try one of these; all tests where there is none."""

    @classmethod
    def of(cls, config: pytest.Config) -> Self:
        """Read the options.

        Raises:
            UserError: one is unknown, or two of them contradict each other.
        """
        options = cls(
            variants=tuple(config.getoption("--variant")),
            platform=config.getoption("--platform"),
            image=config.getoption("--image"),
            contract=config.getoption("--contract"),
            stack=config.getoption("--stack"),
            model_image=config.getoption("--model-image"),
            model_uri=config.getoption("--model-uri"),
            promises=tuple(map(Claim.parse, config.getoption("--promise"))),
        )
        if options.stack not in ("full", "embedded"):
            raise UserError(f"unknown stack '{options.stack}': known are full and embedded")
        if sum(map(bool, (options.image, options.variants, options.model_image))) > 1:
            raise UserError("--image, --model-image and --variant exclude each other: give one")
        if options.contract and not (options.image or options.model_image):
            raise UserError(
                "--contract goes with --image or --model-image: a variant has its own contract.toml"
            )
        if bool(options.model_image) != bool(options.model_uri):
            raise UserError("--model-image and --model-uri go together: give both")
        return options

    def as_arguments(self) -> list[str]:
        """The same options as words of a command line."""
        words = [word for name in self.variants for word in ("--variant", name)]
        words += ["--platform", self.platform]
        if self.image:
            words += ["--image", self.image]
        if self.model_image and self.model_uri:
            words += ["--model-image", self.model_image, "--model-uri", self.model_uri]
        if self.contract:
            words += ["--contract", str(self.contract)]
        if self.stack != "full":
            words += ["--stack", self.stack]
        words += [word for claim in self.promises for word in ("--promise", str(claim))]
        return words
