"""Reading the mutants, each from a file of its own.

`docker/mutants/SECTION/KEY.NAME.toml` holds the mutant NAME, which breaks a promise SECTION.KEY.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from seatrial import documents
from seatrial.contract import PromiseSelector
from seatrial.errors import UserError
from seatrial.mutants.mutant import Mutant, Recipe, SourceChange
from seatrial.project import current

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FOLDER = current().root / "docker" / "mutants"
"""Also the build context of every mutant that is built."""
DEFAULT_VARIANT = "hardened"
_Words = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Change(_Strict):
    file: _Words
    before: _Words
    after: str


class _File(_Strict):
    """The keys of a mutant's file; see `Mutant` and `Recipe`."""

    breaks: _Words
    why: _Words
    of: _Words = DEFAULT_VARIANT
    also: list[str] = Field(default_factory=list)
    change: list[_Change] = Field(default_factory=list)
    dockerfile: str = ""
    uses: list[str] = Field(default_factory=list)
    online: bool = False
    arguments: dict[str, str] = Field(default_factory=dict)
    platforms: list[str] = Field(default_factory=list)
    provenance: bool = True

    @model_validator(mode="after")
    def _has_one_fault(self) -> Self:
        if bool(self.change) == bool(self.dockerfile):
            raise ValueError("it takes either [[change]] or dockerfile")
        for_recipes = {"uses", "online", "arguments", "platforms", "provenance"}
        if self.change and (vain := sorted(self.model_fields_set & for_recipes)):
            raise ValueError(f"{vain[0]} goes with dockerfile")
        return self

    @property
    def recipe(self) -> Recipe | None:
        if not self.dockerfile:
            return None
        return Recipe(
            dockerfile=self.dockerfile,
            uses=tuple(self.uses),
            online=self.online,
            arguments=self.arguments,
            platforms=tuple(self.platforms),
            provenance=self.provenance,
        )


def load(folder: Path = FOLDER) -> dict[str, Mutant]:
    """Read every mutant, by name; needs no engine.

    Raises:
        UserError: a file breaks the rules, or two of them are called the same.
    """
    found: dict[str, Path] = {}
    mutants = {}
    for path in sorted(folder.glob("*/*.toml")):
        mutant = read(path)
        if mutant.name in found:
            raise UserError(f"{path} and {found[mutant.name]} are called the same: {mutant.name}")
        found[mutant.name] = path
        mutants[mutant.name] = mutant
    return dict(sorted(mutants.items()))


def read(path: Path) -> Mutant:
    """Read one mutant.

    Raises:
        UserError: the file is not TOML, has other keys, names a promise that there can't be, or is
            called otherwise than the promise that it breaks.
    """
    content = documents.toml(path, "mutant")
    try:
        file = _File.model_validate(content)
        promise, *also = (PromiseSelector.parse(text) for text in (file.breaks, *file.also))
    except ValidationError as error:
        raise documents.first_fault(path, error) from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    key, _, name = path.stem.partition(".")
    if not name or f"{path.parent.name}.{key}" != promise.key:
        section, _, key = promise.key.partition(".")
        raise UserError(f"{path} breaks {promise}: call it {section}/{key}.NAME.toml")
    return Mutant(
        name=name,
        variant=file.of,
        promise=promise,
        also=tuple(also),
        why=file.why,
        changes=tuple(
            SourceChange(change.file, change.before, change.after) for change in file.change
        ),
        recipe=file.recipe,
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
