"""Building mutants from images that were built before."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from docker.errors import ImageNotFound

from seatrial.build import bake, network
from seatrial.engine.connection import connect
from seatrial.errors import UserError
from seatrial.mutants import overlay
from seatrial.mutants.loader import FOLDER
from seatrial.mutants.mutant import Recipe
from seatrial.project import command, current

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from docker import DockerClient
    from rich.console import Console

    from seatrial.catalogue import Image
    from seatrial.mutants.mutant import Mutant

_AT_ONCE = 12
"""Targets of one run of bake. It writes all of them into the store at once, and of ninety some gave
up waiting for the others."""
_CHANGED = "changed"
"""The context that holds the changed modules."""


def require(mutants: Iterable[Mutant], variants: Mapping[str, Image]) -> None:
    """See that the images are there that mutants are made from.

    Raises:
        UserError: one is not.
    """
    with closing(connect()) as client:
        for name in sorted({name for mutant in mutants for name in mutant.made_from}):
            try:
                client.images.get(variants[name].reference)
            except ImageNotFound:
                build = command(f"build --variant {name}")
                raise UserError(f"{variants[name].reference} is not there: run {build}") from None


def build(mutants: Sequence[Mutant], variants: Mapping[str, Image], console: Console) -> None:
    """Build mutants into the engine's store.

    Raises:
        UserError: a step failed, or a change no longer fits what it changes.
    """
    with ExitStack() as stack:
        client = stack.enter_context(closing(connect()))
        secrets = stack.enter_context(network.secrets())
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="seatrial-mutants-")))
        targets = {
            mutant.name: _target(client, mutant, variants, secrets, folder / mutant.name)
            for mutant in mutants
        }
        file = folder / "bake.json"
        file.write_text(json.dumps({"target": targets}), encoding="utf-8")
        names = list(targets)
        for start in range(0, len(names), _AT_ONCE):
            bake.run(
                names[start : start + _AT_ONCE],
                [],
                {},
                builder=None,
                no_cache=False,
                console=console,
                project=current(),
                file=file,
            )


def _target(
    client: DockerClient,
    mutant: Mutant,
    variants: Mapping[str, Image],
    secrets: Mapping[str, str],
    folder: Path,
) -> dict[str, Any]:
    """The target of the bake file; changed modules are written to `folder`."""
    recipe, contexts = mutant.recipe, {}
    if recipe is None:
        overlay.write(client, mutant, variants[mutant.variant].reference, folder)
        contexts[_CHANGED] = str(folder)
        recipe = Recipe(f"FROM {mutant.variant}\nCOPY --from={_CHANGED} / /\n")
    contexts |= {name: f"docker-image://{variants[name].reference}" for name in mutant.made_from}
    target = {
        "context": str(FOLDER),
        "dockerfile-inline": _literal(recipe.dockerfile),
        "contexts": contexts,
        "args": {name: _literal(value) for name, value in recipe.arguments.items()},
        "platforms": list(recipe.platforms),
        "attest": [f"type=provenance,{'mode=max' if recipe.provenance else 'disabled=true'}"],
        "output": ["type=docker,compression=zstd"],
        "tags": [mutant.reference(variants[mutant.variant])],
        "labels": {"io.seatrial.image": f"mutant-{mutant.name}"},
    }
    if recipe.online:
        contexts["tools"] = str(current().root / "docker" / "bases" / "tools")
        files = {"ca": secrets["AUTHORITIES"], "proxies": secrets["PROXIES"]}
        target["secret"] = [f"id={name},src={path}" for name, path in files.items() if path]
    return target


def _literal(text: str) -> str:
    """The text, for a bake file, whose strings are templates of HCL."""
    return text.replace("${", "$${").replace("%{", "%%{")
