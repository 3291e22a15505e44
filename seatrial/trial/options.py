"""The trial's options, each declared once: for pytest and for `invoke test`."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from seatrial import backends
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from seatrial.contract import PromiseSelector

PREFIX = "seatrial-"
"""Prefix of pytest's own name of an option; the short name goes to whoever was first."""


@dataclass(frozen=True)
class Option:
    """Option of the command line."""

    name: str
    """Name without the dashes before it."""
    metavar: str
    help: str
    default: str = ""
    multiple: bool = False
    """Whether it may be given more than once."""
    of_pytest: bool = False
    """Whether pytest has it anyway."""

    @property
    def flag(self) -> str:
        """The option as it is typed."""
        return f"-{self.name}" if len(self.name) == 1 else f"--{self.name}"

    @property
    def prefixed_flag(self) -> str:
        """The option as pytest takes it whatever other plugins there are."""
        return f"--{PREFIX}{self.name}"

    @property
    def parameter(self) -> str:
        """The name of the task's parameter."""
        return self.name.replace("-", "_")

    @property
    def destination(self) -> str:
        """The name of pytest's attribute."""
        return f"{PREFIX}{self.name}".replace("-", "_")

    def words(self, value: str | list[str] | None, *, flag: str = "") -> list[str]:
        """The words of a command line that give it `value`; none for its default."""
        values = value if isinstance(value, list) else [value]
        return [
            word
            for element in values
            if element and element != self.default
            for word in (flag or self.flag, element)
        ]


SERVICE_OPTIONS = {
    entry.service: Option(
        f"{entry.service}-image",
        "REF",
        f"an image of {entry.title} in the place of the one that is built here, such as that of a"
        " registry; it is pulled if the engine does not have it",
    )
    for entry in backends.ENTRIES
    if entry.service
}
"""The options that name images of services, by the service's name in the catalogue."""

OPTIONS = (
    Option(
        "variant",
        "NAME",
        "a variant of the catalogue, as it was built last on this machine; without one, those of"
        " the catalogue's group `tried`",
        multiple=True,
    ),
    Option("platform", "NAME", "`native`, `amd64`, `arm64` or `all`", default="native"),
    Option(
        "endpoints",
        "FILE",
        "write to FILE, as JSON, which endpoints and fields of MLflow the tests used and which they"
        " did not; the summary of a whole run names the endpoints",
    ),
    Option(
        "report",
        "DIR",
        "write into DIR what the trial has shown: `report.json`, `report.html`, `junit.xml`, and"
        " `summary.md` for the page of a CI job",
    ),
    Option(
        "image",
        "REF",
        "an image that is not of the catalogue; it is pulled if the engine does not have it",
    ),
    Option("contract", "FILE", "the contract of `--image` or `--model-image`"),
    Option("model-image", "REF", "an image that serves one model, which `--model-uri` names"),
    Option("model-uri", "URI", "the model of `--model-image`; it needs an input example"),
    Option(
        "stack",
        "NAME",
        "`full` (PostgreSQL and MinIO) or `embedded` (SQLite and a volume)",
        default="full",
    ),
    *SERVICE_OPTIONS.values(),
    Option(
        "promise",
        "KEY[ITEM]",
        "only tests of this promise, such as `server.databases[sqlite]`; without an item, of every"
        " item of the key",
        multiple=True,
    ),
    Option(
        "effort",
        "NAME",
        "how long generated tests search: `quick` (seconds), `normal` (minutes) or `deep` (an hour"
        " for each image)",
        default="quick",
    ),
    Option(
        "seed",
        "N",
        "what generated tests draw from: the same number gives the same tests; another one in each"
        " run without it, which the summary and each failure name",
    ),
    Option(
        "overlay",
        "FOLDER",
        "files in place of the image's own, to try a change of code without a build: each is"
        " mounted at its path below FOLDER; what is read from the image itself does not see them",
    ),
    Option("k", "EXPR", "only tests whose names match, as for pytest", of_pytest=True),
)


def explained(option: Option) -> str:
    """The option's help, with its default."""
    more = "; may be given more than once" if option.multiple else ""
    default = f" (default: `{option.default}`)" if option.default else ""
    return f"{option.help}{more}{default}"


def as_task(run: Callable[..., None]) -> Callable[..., None]:
    """Give a task's function the options as its parameters: invoke reads them off the signature."""
    context, *_ = inspect.signature(run).parameters.values()
    multiple = [option for option in OPTIONS if option.multiple]
    single = [option for option in OPTIONS if not option.multiple]
    parameter_kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        context,
        *(inspect.Parameter(option.parameter, parameter_kind) for option in multiple),
        *(
            inspect.Parameter(option.parameter, parameter_kind, default=option.default)
            for option in single
        ),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def iterable_parameters() -> list[str]:
    """The task's parameters that may be given more than once."""
    return [option.parameter for option in OPTIONS if option.multiple]


def task_help() -> dict[str, str]:
    """Help of the task, by option."""
    return {option.name: explained(option).replace("`", "") for option in OPTIONS}


def as_words(values: Mapping[str, Any], *, flags: Collection[str] | None = None) -> list[str]:
    """The words of a command line that give these values.

    Args:
        values: by the name of the task's parameter.
        flags: the short names that are the trial's on that command line; None for all of them.
    """
    return [
        word
        for option in OPTIONS
        for word in option.words(
            values.get(option.parameter),
            flag=option.flag if _is_known(option, flags) else option.prefixed_flag,
        )
    ]


def _is_known(option: Option, flags: Collection[str] | None) -> bool:
    return option.of_pytest or flags is None or option.flag in flags


@dataclass(frozen=True)
class TrialOptions:
    """Options that were asked for."""

    variants: tuple[str, ...] = ()
    platform: str = "native"
    endpoints: Path | None = None
    """A JSON file to write, about the endpoints that were used."""
    report: Path | None = None
    """A folder to write what the trial has shown into."""
    image: str | None = None
    contract: Path | None = None
    stack: Literal["full", "embedded"] = "full"
    model_image: str | None = None
    model_uri: str | None = None
    effort: Literal["quick", "normal", "deep"] = "quick"
    """Effort of generated tests."""
    seed: int | None = None
    """Seed of generated tests; None for another one in each run."""
    service_images: Mapping[str, str] = field(default_factory=dict)
    """References in the place of the images that are built here, by the service's name."""
    overlay: Path | None = None
    """A folder of files that stand in place of the image's own."""
    promises: tuple[PromiseSelector, ...] = ()
    """Promises of which a test must try one; all tests where there is none."""
    flags: frozenset[str] | None = field(default=None, compare=False)
    """The short names that are the trial's on pytest's command line; None for all of them."""

    @classmethod
    def of(cls, given: Mapping[str, Any], flags: Collection[str] | None = None) -> Self:
        """Check what was given on the command line.

        Args:
            given: values by the name of the task's parameter.
            flags: the short names that are the trial's on that command line; None for all of them.

        Raises:
            UserError: a value is unknown, or two options contradict each other.
        """
        from seatrial.contract import PromiseSelector

        options = cls(
            variants=tuple(given["variant"]),
            platform=given["platform"],
            endpoints=Path(given["endpoints"]).resolve() if given["endpoints"] else None,
            report=Path(given["report"]).resolve() if given["report"] else None,
            image=given["image"] or None,
            contract=Path(given["contract"]) if given["contract"] else None,
            stack=given["stack"],
            model_image=given["model_image"] or None,
            model_uri=given["model_uri"] or None,
            effort=given["effort"],
            seed=_seed(given["seed"]),
            service_images={
                name: reference
                for name, option in SERVICE_OPTIONS.items()
                if (reference := given[option.parameter])
            },
            overlay=Path(given["overlay"]).resolve() if given["overlay"] else None,
            promises=tuple(map(PromiseSelector.parse, given["promise"])),
            flags=None if flags is None else frozenset(flags),
        )
        if options.stack not in ("full", "embedded"):
            raise UserError(f"unknown stack '{options.stack}': known are full and embedded")
        if options.effort not in ("quick", "normal", "deep"):
            raise UserError(f"unknown effort '{options.effort}': known are quick, normal and deep")
        if sum(map(bool, (options.image, options.variants, options.model_image))) > 1:
            raise UserError("--image, --model-image and --variant exclude each other: give one")
        if options.contract and not (options.image or options.model_image):
            raise UserError(
                "--contract goes with --image or --model-image: a variant has its own contract.toml"
            )
        if bool(options.model_image) != bool(options.model_uri):
            raise UserError("--model-image and --model-uri go together: give both")
        if options.endpoints and not options.endpoints.parent.is_dir():
            raise UserError(f"--endpoints {given['endpoints']}: its folder does not exist")
        if options.report and not options.report.parent.is_dir():
            raise UserError(f"--report {given['report']}: the folder above it does not exist")
        if options.report and options.report.exists() and not options.report.is_dir():
            raise UserError(f"--report {given['report']}: it is no folder")
        if options.overlay and not options.overlay.is_dir():
            raise UserError(f"--overlay {given['overlay']}: there is no such folder")
        if options.overlay and not any(path.is_file() for path in options.overlay.rglob("*")):
            raise UserError(f"--overlay {given['overlay']}: it holds no file")
        return options

    def as_arguments(self) -> list[str]:
        """The same options as words of pytest's command line."""
        values = {
            "variant": list(self.variants),
            "platform": self.platform,
            "endpoints": str(self.endpoints) if self.endpoints else None,
            "report": str(self.report) if self.report else None,
            "image": self.image,
            "contract": str(self.contract) if self.contract else None,
            "effort": self.effort,
            "seed": None if self.seed is None else str(self.seed),
            "model_image": self.model_image,
            "model_uri": self.model_uri,
            "stack": self.stack,
            "overlay": str(self.overlay) if self.overlay else None,
            "promise": [str(selector) for selector in self.promises],
            **{
                SERVICE_OPTIONS[name].parameter: reference
                for name, reference in self.service_images.items()
            },
        }
        return as_words(values, flags=self.flags)


def _seed(given: str) -> int | None:
    if given and not (given.isascii() and given.isdecimal()):
        raise UserError(f"--seed {given}: it takes a whole number, 0 or more")
    return int(given) if given else None
