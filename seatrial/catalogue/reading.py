"""Reading the catalogue: bake evaluates its own file, Python only takes the result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from python_on_whales import DockerClient
from python_on_whales.client_config import ClientNotFoundError
from python_on_whales.exceptions import DockerException

from seatrial.catalogue.model import Catalogue, Image
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
BAKE_FILE = ROOT / "docker" / "docker-bake.hcl"

INTERNAL = (
    "BUILD_PLATFORM",
    "DEBIAN_IMAGE",
    "DEBIAN_DIGEST",
    "MLFLOW_IMAGE",
    "MLFLOW_DIGEST",
    "AUTHORITIES",
    "PROXIES",
    "SOURCE",
    "REVISION",
    "CREATED",
    "SOURCE_DATE_EPOCH",
    "MODEL_FILES",
    "MODEL_LISTS",
    "MODEL_SOURCES",
    "MODEL_TAG",
    "MODEL_URI",
    "MODEL_RUN",
    "MODEL_ID",
    "MODEL_NAME",
    "MODEL_VERSION",
    "MODEL_SIGNATURE",
    "MODEL_MLFLOW",
)
"""Variables that the build fills in and that no person sets."""

_GROUPS = ("variants", "services", "bases", "models")
_TRIED = "tried"
_LINK = "target:"


def load(
    arguments: Mapping[str, str] | None = None, variables: Mapping[str, str] | None = None
) -> Catalogue:
    """Read the catalogue with `docker buildx bake --print`; needs no engine.

    Args:
        arguments: values for what a person may set (`--arg NAME=VALUE`).
        variables: values for `INTERNAL`; what is left out is empty.

    Raises:
        UserError: an argument is unknown or refused by bake, or buildx is missing.
    """
    given = dict(arguments or {})
    filled = environment(given, variables or {})
    groups = evaluate((*_GROUPS, _TRIED, "arguments"), filled)
    known = groups["target"]["arguments"]["args"]
    for name in given:
        if name not in known:
            raise UserError(f"unknown argument {name!r}: known are {', '.join(known)}")
    targets = groups["target"]
    variants, services, bases, models = (
        {name: _image(name, targets[name]) for name in groups["group"][group]["targets"]}
        for group in _GROUPS
    )
    default = evaluate((), filled)["group"]["default"]["targets"]
    tried = groups["group"][_TRIED]["targets"]
    return Catalogue(variants, services, bases, models, tuple(default), tuple(tried), known)


def environment(arguments: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """Make the environment variables that give bake its values.

    Bake takes variables from the environment. A person's own SOURCE or REVISION must not leak
    into the labels, so every internal one is always given.
    """
    filled = {name: variables.get(name, "") for name in INTERNAL}
    if not filled["BUILD_PLATFORM"]:
        del filled["BUILD_PLATFORM"]  # bake knows its own machine's
    return {**arguments, **filled}


def evaluate(
    targets: Sequence[str], variables: Mapping[str, str], file: Path = BAKE_FILE
) -> dict[str, Any]:
    """Have bake evaluate `targets` of a file: what it prints has a `group` and a `target`.

    Raises:
        UserError: bake refuses, or is missing.
    """
    try:
        printed = DockerClient().buildx.bake(
            list(targets), files=[file], print=True, variables=dict(variables)
        )
    except ClientNotFoundError as error:
        raise UserError("there is no docker client on this machine: run `invoke setup`") from error
    except DockerException as error:
        lines = (error.stderr or "no output").strip().splitlines()
        if any("is not a docker command" in line for line in lines):
            raise UserError("docker has no buildx plugin: run `invoke setup`") from error
        raise UserError(f"{file.relative_to(ROOT)}: {lines[-1].removeprefix('ERROR: ')}") from error
    assert isinstance(printed, dict)
    return printed


def _image(name: str, target: Mapping[str, Any]) -> Image:
    folder = ROOT / target["context"]
    links = (
        context.removeprefix(_LINK)
        for context in target.get("contexts", {}).values()
        if context.startswith(_LINK)
    )
    return Image(
        name=name,
        tags=tuple(target.get("tags", ())),
        platforms=tuple(target["platforms"]),
        folder=folder.resolve(),
        labels=target.get("labels", {}),
        dependencies=tuple(dict.fromkeys(links)),
    )
