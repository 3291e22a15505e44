"""Reading the mutants from their bake file, of which there is no second list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seatrial.catalogue.reading import evaluate
from seatrial.contract import Claim
from seatrial.errors import UserError
from seatrial.mutants.model import Mutant
from seatrial.project import current

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BAKE_FILE = current().root / "docker" / "mutants" / "docker-bake.hcl"
GROUP = "mutants"

_LABEL = "io.seatrial.mutant."
_IMAGE = "docker-image://"


def load() -> dict[str, Mutant]:
    """Read every mutant, by name; needs no engine.

    Raises:
        UserError: bake refuses the file, or a mutant doesn't say what it breaks.
    """
    targets = evaluate(current(), [GROUP], {}, BAKE_FILE)["target"]
    return {name: mutant(name, target) for name, target in sorted(targets.items())}


def mutant(name: str, target: Mapping[str, Any]) -> Mutant:
    """Read one target of the bake file.

    Raises:
        UserError: a label is missing, or names a promise that there can't be.
    """
    labels: Mapping[str, str] = target.get("labels", {})
    for part in ("promise", "variant"):
        if not labels.get(f"{_LABEL}{part}"):
            raise UserError(f"the mutant {name} has no label {_LABEL}{part}")
    try:
        promise, *also = (
            Claim.parse(text)
            for text in (labels[f"{_LABEL}promise"], *labels.get(f"{_LABEL}also", "").split("; "))
            if text
        )
    except UserError as error:
        raise UserError(f"the mutant {name}: {error}") from None
    return Mutant(
        name=name,
        reference=target["tags"][0],
        variant=labels[f"{_LABEL}variant"],
        promise=promise,
        made_from=tuple(
            place.removeprefix(_IMAGE)
            for place in target.get("contexts", {}).values()
            if place.startswith(_IMAGE)
        ),
        also=tuple(also),
    )


def select(mutants: Mapping[str, Mutant], names: Sequence[str]) -> list[Mutant]:
    """Take mutants by name, or all of them.

    Raises:
        UserError: there is no mutant of that name.
    """
    for name in names:
        if name not in mutants:
            raise UserError(f"unknown mutant '{name}': `nox -s mutants -- --list` shows them")
    return [mutants[name] for name in dict.fromkeys(names or mutants)]
