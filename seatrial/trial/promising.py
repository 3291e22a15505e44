"""Tests made from promises.

A test says which promise it checks: `@pytest.mark.promise("process.stops_within")`, or one item of
a list, `@pytest.mark.promise("server.databases", "sqlite")`. It then runs for each image whose
contract makes that promise. With the fixture `promised` it runs once for each item of the list.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seatrial.contract import Claim, Promise, promises_of
from seatrial.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from seatrial.stack.subject import Subject
    from seatrial.trial.options import TrialOptions

MARK = "promise"
NEEDS_SERVICES = {
    Promise("server.databases", "postgresql"),
    Promise("server.databases", "mysql"),
    Promise("server.artifact_stores", "s3"),
    Promise("server.artifact_access", "direct"),
    Promise("server.multipart", "proxied"),
    Promise("server.multipart", "direct"),
    Promise("server.reports_faults", "bucket"),
    Promise("server.tls", "s3"),
    Promise("entrypoint.forms", "mlflow server"),
    Promise("entrypoint.forms", "none"),
    Promise("entrypoint.expands_variables"),
    Promise("entrypoint.secret_files"),
    Promise("entrypoint.hides_secrets"),
    Promise("entrypoint.waits_for_database"),
    Promise("entrypoint.replicas"),
    Promise("entrypoint.schema_upgrade", "asked"),
    Promise("entrypoint.schema_upgrade", "unasked"),
}
"""Promises that only the full stack can try."""


@dataclass(frozen=True)
class Case:
    """One run of a test: on which image, for which promises."""

    subject: Subject
    promises: tuple[Promise, ...]


def claims_of(definition: pytest.Function) -> list[Claim]:
    """The promises that the marks of a test, its class and its module name."""
    return [Claim(*mark.args) for mark in definition.iter_markers(MARK)]


def _claims_written_on(thing: object) -> list[Claim]:
    """What the marks of a module, a function, or a class and its methods promise."""
    marks = getattr(thing, "pytestmark", [])
    marks = marks if isinstance(marks, list) else [marks]
    written = [Claim(*mark.args) for mark in marks if mark.name == MARK]
    methods = vars(thing).values() if isinstance(thing, type) else ()
    return written + [claim for method in methods for claim in _claims_written_on(method)]


def cases(
    claims: list[Claim], subjects: list[Subject], options: TrialOptions, *, itemwise: bool
) -> list[Case]:
    """On which images a test with `claims` runs, and how often.

    Args:
        claims: the test's marks; an image must make every promise that they name.
        subjects: the images under test.
        options: the stack rules promises out.
        itemwise: once for each item of the first claim, rather than once.
    """
    found = []
    for subject in subjects:
        kept = [promise for promise in promises_of(subject.contract) if _can_try(promise, options)]
        matches = [[one for one in kept if claim.covers(one)] for claim in claims]
        if not all(matches):
            continue
        if itemwise:
            found += [Case(subject, (promise,)) for promise in matches[0]]
        else:
            found.append(Case(subject, tuple(one for match in matches for one in match)))
    return found


def _can_try(promise: Promise, options: TrialOptions) -> bool:
    return options.stack == "full" or not needs_services(promise)


def needs_services(promise: Promise) -> bool:
    """Whether only the full stack can try it."""
    return Promise(promise.key, promise.item) in NEEDS_SERVICES


def is_wanted(*tried: Promise, options: TrialOptions) -> bool:
    """Whether one of the promises was asked for, or none at all was."""
    asked = options.promises
    return not asked or any(claim.covers(one) for claim in asked for one in tried)


def require_promised(subjects: list[Subject], options: TrialOptions) -> None:
    """Refuse to look for a promise that no image under test makes.

    Raises:
        UserError: naming it.
    """
    made = [promise for subject in subjects for promise in promises_of(subject.contract)]
    for claim in options.promises:
        if not any(claim.covers(promise) for promise in made):
            others = [str(promise) for promise in made if promise.key == claim.key]
            names = ", ".join(subject.label for subject in subjects)
            raise UserError(
                f"{names}: {claim} is not promised"
                + (f", only {', '.join(others)}" if others else "")
            )


def require_coverage(subjects: list[Subject], acceptance: Path) -> None:
    """Refuse a contract with a promise that no test in the folder `acceptance` tries.

    The modules are read whole, so that the answer does not depend on which tests were asked for.

    Raises:
        UserError: naming the contract, the promise, and what a test for it has to carry.
    """
    claims: set[Claim] = set()
    for path in sorted(acceptance.glob("test_*.py")):
        module = importlib.import_module(f"{acceptance.name}.{path.stem}")
        for thing in (module, *vars(module).values()):
            claims.update(_claims_written_on(thing))
    for subject in subjects:
        for promise in promises_of(subject.contract):
            if not any(claim.covers(promise) for claim in claims):
                raise UserError(
                    f"{subject.contract_path} promises {promise}, and no test in"
                    f" {acceptance.name}/ is marked with it"
                )
