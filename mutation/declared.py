"""What pyproject.toml and equivalent.toml say about mutation testing."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from mutation.trying import Tests
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mutation.changes import Mutant

EQUIVALENT = "mutation/equivalent.toml"


class Package(BaseModel):
    """A package whose modules are mutated."""

    model_config = ConfigDict(extra="forbid")

    scores: dict[str, float]
    """What was noted of modules, in per cent: no whole run of one may find less."""
    tests: dict[str, list[str]]
    """Each module's tests, as pytest takes them, the quick ones first."""

    def tests_of(self, package: str, module: str) -> Tests:
        """The tests of a module.

        Raises:
            UserError: none are declared.
        """
        if module not in self.tests:
            raise UserError(
                f"pyproject.toml declares no tests of {module}: name them in"
                f" [tool.mutation.{package}.tests]"
            )
        return Tests(package, tuple(self.tests[module]))


class Explanation(BaseModel):
    """Why a mutant behaves as the module does: no test can kill it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    module: str
    change: tuple[str, ...]
    reason: str

    def fits(self, mutant: Mutant) -> bool:
        """Tell whether it is about this mutant."""
        return (self.module, self.change) == (mutant.module, mutant.change)


def packages(root: Path) -> dict[str, Package]:
    """The packages by their folder's names.

    Raises:
        UserError: a declaration is wrong.
    """
    with (root / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["tool"]["mutation"]
    try:
        return {name: Package.model_validate(value) for name, value in declared.items()}
    except ValidationError as error:
        raise UserError(f"[tool.mutation] of pyproject.toml: {_first(error)}") from None


def explanations(root: Path) -> list[Explanation]:
    """The mutants that are known to be equivalent.

    Raises:
        UserError: one is wrong.
    """
    with (root / EQUIVALENT).open("rb") as file:
        declared = tomllib.load(file)
    try:
        return [Explanation.model_validate(value) for value in declared.get("mutant", [])]
    except ValidationError as error:
        raise UserError(f"{EQUIVALENT}: {_first(error)}") from None


def idle(
    known: Iterable[Explanation], survivors: list[Mutant], tried: list[Mutant], *, whole: set[str]
) -> list[Explanation]:
    """Explanations that explain nothing.

    Args:
        known: all of them.
        survivors: the mutants that survived.
        tried: all mutants that were tried.
        whole: modules all of whose mutants were tried.
    """
    return [
        each
        for each in known
        if not any(map(each.fits, survivors))
        and (each.module in whole or any(map(each.fits, tried)))
    ]


def _first(error: ValidationError) -> str:
    fault = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
