"""Promises without a mutant: whether the trial would notice that they are broken, nobody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seatrial.contract import PromiseSelector, load, promises_of
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from seatrial.contract import Promise
    from seatrial.mutants.mutant import Mutant


def require_whole(mutants: Collection[Mutant], contracts: Mapping[str, Path]) -> None:
    """Refuse mutants that leave a promise out, or that break what nobody promised.

    Args:
        mutants: all of them.
        contracts: the files, by variant.

    Raises:
        UserError: naming the promise, and the contract or the mutant.
    """
    promised = {name: promises_of(load(path)) for name, path in contracts.items()}
    for mutant in mutants:
        if mutant.variant not in promised:
            raise UserError(
                f"the mutant {mutant.name} is made from '{mutant.variant}': known variants are"
                f" {', '.join(promised)}"
            )
        for selector in mutant.broken:
            if selector not in {
                PromiseSelector(promise.key, promise.item) for promise in promised[mutant.variant]
            }:
                raise UserError(
                    f"the mutant {mutant.name} is to break {selector}, which"
                    f" {contracts[mutant.variant]} doesn't promise"
                )
    for variant, promises in promised.items():
        for promise in promises:
            if not any(_covers(mutant, promise) for mutant in mutants):
                raise UserError(
                    f"{contracts[variant]} promises {promise}, and no mutant breaks it: add one to"
                    " docker/mutants/"
                )


def _covers(mutant: Mutant, promise: Promise) -> bool:
    if promise.declaration.alike:
        return mutant.promise.key == promise.key
    return mutant.promise == PromiseSelector(promise.key, promise.item)
