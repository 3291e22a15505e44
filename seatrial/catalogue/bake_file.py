"""Reading the catalogue: bake evaluates its own file, Python only takes the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from python_on_whales import DockerClient
from python_on_whales.client_config import ClientNotFoundError
from python_on_whales.exceptions import DockerException

from seatrial.catalogue.model import Catalogue, Image
from seatrial.engine.connection import PLATFORMS
from seatrial.errors import UserError
from seatrial.project import Project, builtin, command, current

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

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
STATE_VARIABLE = "STATE"
"""The variable with the folder for what is kept between builds; always the project's own."""

_GROUPS = ("variants", "services", "bases", "models")
_TRIED = "tried"
_LINK = "target:"


def load(
    arguments: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    project: Project | None = None,
) -> Catalogue:
    """Read a catalogue with `docker buildx bake --print`; needs no engine.

    A repository without services of its own has a plain bake file: what its default group names,
    and has a contract, is its variants.

    Args:
        arguments: values for what a person may set (`--arg NAME=VALUE`).
        variables: values for `INTERNAL`; what is left out is empty.
        project: the repository; None for the current one.

    Raises:
        UserError: there is no bake file, or bake refuses it; an argument is unknown; no target has
            a contract; or buildx is missing.
    """
    project = project or current()
    project.require_bake_file()
    given = dict(arguments or {})
    filled = environment(given, variables or {})
    if not project.has_services:
        if given:
            raise UserError(
                f"--arg sets what Seatrial's own catalogue declares, and {project.root} has another"
            )
        return _plain(project, filled)
    groups = evaluate(project, (*_GROUPS, _TRIED, "arguments"), filled)
    known = groups["target"]["arguments"]["args"]
    for name in given:
        if name not in known:
            raise UserError(f"unknown argument {name!r}: known are {', '.join(known)}")
    targets = groups["target"]
    variants, services, bases, models = (
        {name: _image(project, name, targets[name]) for name in groups["group"][group]["targets"]}
        for group in _GROUPS
    )
    default = evaluate(project, (), filled)["group"]["default"]["targets"]
    tried = groups["group"][_TRIED]["targets"]
    return Catalogue(
        project, variants, services, bases, models, tuple(default), tuple(tried), known
    )


def load_builtin(variables: Mapping[str, str] | None = None) -> Catalogue:
    """Read the catalogue that has the services, bases and models' images.

    Args:
        variables: as `load` takes them.

    Raises:
        UserError: there is none, or buildx is missing.
    """
    return load({}, variables, builtin())


def _plain(project: Project, filled: Mapping[str, str]) -> Catalogue:
    """The targets with a contract, and those that they are made from."""
    printed = evaluate(project, (), filled)
    images = {name: _image(project, name, target) for name, target in printed["target"].items()}
    variants = {
        name: images[name]
        for name in printed["group"]["default"]["targets"]
        if images[name].contract.is_file()
    }
    if not variants:
        raise UserError(
            f"{project.shown(project.require_bake_file())}: no target of the default group has a"
            " contract.toml in its context: write one, or name an image with --image"
        )
    for image in variants.values():
        if not image.tags:
            raise UserError(
                f"the target '{image.name}' has a contract and no tag: the trial finds an image by"
                " its tag"
            )
    bases = {name: image for name, image in images.items() if name not in variants}
    names = tuple(variants)
    return Catalogue(project, variants, {}, bases, {}, names, names, {})


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
    project: Project,
    targets: Sequence[str],
    variables: Mapping[str, str],
    file: Path | None = None,
) -> dict[str, Any]:
    """Have bake evaluate `targets` of a file: what it prints has a `group` and a `target`.

    Args:
        project: the repository.
        targets: names of targets and groups; none for the default group.
        variables: of the bake file.
        file: None for the project's catalogue.

    Raises:
        UserError: bake refuses, or is missing.
    """
    file = file or project.require_bake_file()
    try:
        printed = DockerClient().buildx.bake(
            list(targets),
            files=[file],
            print=True,
            variables={**variables, STATE_VARIABLE: str(project.state)},
        )
    except ClientNotFoundError as error:
        raise UserError(
            f"there is no docker client on this machine: run {command('setup')}"
        ) from error
    except DockerException as error:
        lines = (error.stderr or "no output").strip().splitlines()
        # Clients of 28 and later print the first; earlier ones, the second.
        words = ("unknown command: docker buildx", "'buildx' is not a docker command")
        if any(word in line for line in lines for word in words):
            raise UserError(f"docker has no buildx plugin: run {command('setup')}") from error
        raise UserError(f"{project.shown(file)}: {lines[-1].removeprefix('ERROR: ')}") from error
    assert isinstance(printed, dict)
    return printed


def _image(project: Project, name: str, target: Mapping[str, Any]) -> Image:
    links = (
        context.removeprefix(_LINK)
        for context in target.get("contexts", {}).values()
        if context.startswith(_LINK)
    )
    return Image(
        name=name,
        tags=tuple(target.get("tags", ())),
        platforms=tuple(target.get("platforms", PLATFORMS)),
        folder=(project.root / target.get("context", ".")).resolve(),
        labels=target.get("labels", {}),
        dependencies=tuple(dict.fromkeys(links)),
    )
