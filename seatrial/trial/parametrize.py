"""Tests made from promises.

A test says which promise it checks: `@pytest.mark.promise("process.stops_within")`, or one item of
a list, `@pytest.mark.promise("server.databases", "sqlite")`. It then runs for each image whose
contract makes that promise. With the fixture `seatrial_promised` it runs once for each item of the
list. A test outside the acceptance tests may name no promise: it then runs for each image.
What a promise needs in order to be tried is declared in the schema, not on its tests.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from seatrial.contract import Need, Promise, PromiseSelector, promises_of
from seatrial.engine import connection
from seatrial.errors import UserError
from seatrial.trial.sharing import roles_of, shared_server_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from seatrial.trial.options import TrialOptions
    from seatrial.trial.sources import ImageSource

MARK = "promise"
PROMISE_PROPERTY = "seatrial.promise"
"""The property of a test's report that names a promise that it tries."""


@dataclass(frozen=True)
class TrialCase:
    """Run of a test: on which image, for which promises."""

    source: ImageSource
    """Source of the image."""
    promises: tuple[Promise, ...]

    @property
    def emulated_in_vain(self) -> bool:
        """Whether the image is emulated, and a promise is not tried under emulation."""
        return not self.source.native and self._needs(Need.NATIVE)

    @property
    def missing(self) -> str:
        """List what a promise needs and this machine lacks; empty where all is there."""
        if self._needs(Need.SOCKET) and (endpoint := connection.endpoint()).socket is None:
            return f"the engine is at {endpoint}: runs where it is at a socket of this machine"
        return ""

    def _needs(self, need: Need) -> bool:
        return any(need in promise.needs for promise in self.promises)


def selectors_of(definition: pytest.Function) -> list[PromiseSelector]:
    """Read the promises from the marks of a test, its class and its module.

    Raises:
        UserError: a mark names what no contract can promise.
    """
    return [_selector(mark, definition.nodeid) for mark in definition.iter_markers(MARK)]


def _selectors_written_on(thing: object, place: str) -> list[PromiseSelector]:
    """Read the promises from the marks of a module, a function, or a class and its methods."""
    marks = getattr(thing, "pytestmark", [])
    marks = marks if isinstance(marks, list) else [marks]
    written = [_selector(mark, place) for mark in marks if mark.name == MARK]
    methods = vars(thing).items() if isinstance(thing, type) else ()
    return written + [
        selector
        for name, method in methods
        for selector in _selectors_written_on(method, f"{place}::{name}")
    ]


def _selector(mark: pytest.Mark, place: str) -> PromiseSelector:
    words = all(isinstance(argument, str) for argument in mark.args)
    if not (words and 1 <= len(mark.args) <= 2) or mark.kwargs:
        raise UserError(f"{place}: the mark `promise` takes a key, and an item where it has some")
    try:
        return PromiseSelector.of(*mark.args)
    except UserError as error:
        raise UserError(f"{place} is marked with a promise: {error}") from None


def cases(
    selectors: list[PromiseSelector],
    sources: Sequence[ImageSource],
    options: TrialOptions,
    *,
    itemwise: bool,
) -> list[TrialCase]:
    """List the images on which a test with `selectors` runs, and how often.

    Args:
        selectors: the test's marks; an image must make every promise that they name.
        sources: the images under test.
        options: the stack rules promises out.
        itemwise: once for each item of the first selector, rather than once.
    """
    found = []
    for source in sources:
        kept = [promise for promise in promises_of(source.contract) if can_try(promise, options)]
        matches = [
            [promise for promise in kept if selector.covers(promise)] for selector in selectors
        ]
        if not all(matches):
            continue
        if itemwise:
            found += [TrialCase(source, (promise,)) for promise in matches[0]]
        else:
            found.append(
                TrialCase(source, tuple(promise for match in matches for promise in match))
            )
    return found


def parametrize(
    metafunc: pytest.Metafunc,
    sources: Sequence[ImageSource],
    options: TrialOptions,
    *,
    strict: bool,
) -> list[str]:
    """Run a test once for each image (and item) that makes its promises.

    Args:
        metafunc: the test.
        sources: the images under test.
        options: the stack rules promises out.
        strict: whether the test must name a promise.

    Returns:
        what is left out, and why.

    Raises:
        pytest.UsageError: the test names no promise and must, or one that there is not.
    """
    test, fixtures = metafunc.definition, metafunc.fixturenames
    try:
        selectors = selectors_of(test)
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    itemwise = "seatrial_promised" in fixtures
    if not selectors and (strict or itemwise):
        raise pytest.UsageError(f"{test.nodeid} says no promise: mark it with one")
    found = cases(selectors, _with_servers_for(fixtures, sources), options, itemwise=itemwise)
    left_out = [
        f"{test.nodeid}[{case.source.label}]: native only"
        for case in found
        if case.emulated_in_vain
    ]
    found = [case for case in found if not case.emulated_in_vain]
    parameters = [_parameter(fixtures, case, itemwise=itemwise) for case in found]
    metafunc.parametrize("seatrial_case", parameters or [None], indirect=True)
    return left_out


def _with_servers_for(fixtures: Sequence[str], sources: Sequence[ImageSource]) -> list[ImageSource]:
    """The images that a test with these fixtures can be about."""
    roles = roles_of(fixtures)
    if "model" in roles:
        return [source for source in sources if source.contract.serves_models]
    if "tracking" in roles:
        return [source for source in sources if not source.contract.serves_models]
    # One that is still to be built can only be built.
    return [source for source in sources if not source.built_by_trial]


def _parameter(fixtures: Sequence[str], case: TrialCase, *, itemwise: bool) -> object:
    label = case.source.label
    item = case.promises[0].item if itemwise else None
    shared = shared_server_of(fixtures)
    marks = [pytest.mark.xdist_group(f"{label} {shared}")] if shared else []
    return pytest.param(case, id=f"{label}-{item}" if item else label, marks=marks)


def select(items: list[pytest.Item], options: TrialOptions) -> list[pytest.Item]:
    """Keep the tests that an image promises and that were asked for; note what they try.

    Args:
        items: the collected tests; others are taken out of the list.
        options: the promises that were asked for.

    Returns:
        the tests that were not asked for.
    """
    kept: list[pytest.Item] = []
    unwanted: list[pytest.Item] = []
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        case: TrialCase | None = parameters.get("seatrial_case")
        if case is None and "seatrial_case" in getattr(item, "fixturenames", ()):
            continue
        if not is_wanted(*(case.promises if case else ()), options=options):
            unwanted.append(item)
            continue
        kept.append(item)
        if case:
            item.user_properties += [
                (PROMISE_PROPERTY, f"{case.source.label}: {promise}") for promise in case.promises
            ]
    items[:] = kept
    return unwanted


def can_try(promise: Promise, options: TrialOptions) -> bool:
    """Whether the stack has what the promise needs."""
    return options.stack == "full" or Need.SERVICES not in promise.needs


def is_wanted(*tried: Promise, options: TrialOptions) -> bool:
    """Whether one of the promises was asked for, or none at all was."""
    asked = options.promises
    return not asked or any(selector.covers(promise) for selector in asked for promise in tried)


def require_coverage(sources: Sequence[ImageSource], acceptance: Path, package: str) -> None:
    """Refuse a contract with a promise that no test in the folder `acceptance` tries.

    The modules are read whole, so that the answer does not depend on which tests were asked for.

    Args:
        sources: the images under test.
        acceptance: the folder of the acceptance tests.
        package: its name as Python imports it.

    Raises:
        UserError: naming the contract, the promise, and what a test for it has to carry; or the
            test whose mark names no promise.
    """
    selectors: set[PromiseSelector] = set()
    for path in sorted(acceptance.glob("test_*.py")):
        module = importlib.import_module(f"{package}.{path.stem}")
        place = f"{acceptance.name}/{path.name}"
        selectors.update(_selectors_written_on(module, place))
        for name, thing in vars(module).items():
            selectors.update(_selectors_written_on(thing, f"{place}::{name}"))
    for source in sources:
        for promise in promises_of(source.contract):
            if not any(selector.covers(promise) for selector in selectors):
                raise UserError(
                    f"{source.contract_path} promises {promise}, and no test in"
                    f" {acceptance.name}/ is marked with it"
                )
