"""The table of operations: how each is called, what its arguments are drawn from, what it makes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from seatrial.differential.steps import Name, Ref, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from hypothesis.strategies import SearchStrategy

    from seatrial.differential.side import Side

PAGES = 40
"""The most pages that a search is followed through: one that never ends, ends here."""


class Scope:
    """What the steps drawn so far make, if all of them succeed."""

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        """Read what the steps make."""
        self._labels: defaultdict[str, list[str]] = defaultdict(list)
        for step in steps:
            if step.makes:
                self.add(step.makes)

    def add(self, label: str) -> None:
        """Note that something is made."""
        self._labels[label.rpartition("_")[0]].append(label)

    def new_label(self, kind: str) -> str:
        """A label for what the next step makes."""
        return f"{kind}_{len(self._labels[kind]) + 1}"

    def labels(self, kind: str) -> list[str]:
        """The labels of what was made of a kind, in their order."""
        return self._labels[kind]

    def count(self, kind: str) -> int:
        """How many of a kind there are."""
        return len(self._labels[kind])

    def one(self, kind: str) -> SearchStrategy[Ref]:
        """One of a kind."""
        return st.sampled_from(self._labels[kind]).map(Ref)

    def some(self, kind: str, least: int = 1) -> SearchStrategy[list[Ref]]:
        """Some of a kind."""
        return st.lists(self.one(kind), min_size=least, max_size=3, unique=True)


Arguments = dict[str, "SearchStrategy[Any]"]


def _its_id(returned: object) -> str:
    return str(returned)


@dataclass(frozen=True)
class Operation:
    """One call of a client."""

    name: str
    """Of the client's method."""
    required: Callable[[Scope], Arguments] = field(default=lambda _: {})
    optional: Callable[[Scope], Arguments] = field(default=lambda _: {})
    """Arguments that may be left out."""
    call: Callable[[Side, dict[str, Any]], object] | None = None
    """Where it is no method of MlflowClient."""
    makes: str = ""
    """The kind of what it makes."""
    identify: Callable[[Any], str] = _its_id
    """Takes the id of what it made out of what it returned."""
    needs: tuple[str, ...] = ()
    """Kinds of which there must be one."""
    most: int = 4
    """How many a sequence makes with it."""
    reads: bool = False
    """Whether it changes nothing."""
    weight: int = 2
    """How often it is drawn, beside others."""

    def __call__(self, side: Side, arguments: dict[str, Any]) -> object:
        """Call it on one server."""
        if self.call:
            return self.call(side, arguments)
        return getattr(side.client, self.name)(**arguments)

    def is_possible(self, scope: Scope) -> bool:
        """Whether there is what it needs, and not too much of what it makes."""
        enough = all(scope.count(kind) for kind in self.needs)
        return enough and (not self.makes or scope.count(self.makes) < self.most)

    def steps(self, scope: Scope) -> SearchStrategy[Step]:
        """Steps with all their arguments drawn."""
        label = scope.new_label(self.makes) if self.makes else ""
        optional = self.optional(scope)
        drawn = st.fixed_dictionaries(self.required(scope), optional=optional)
        return drawn.map(lambda arguments: Step(self.name, arguments, label, frozenset(optional)))


def on_store(method: str) -> Callable[[Side, dict[str, Any]], object]:
    """Call a method of the client's store, which MlflowClient does not offer."""
    return lambda side, arguments: getattr(side.store, method)(**arguments)


def all_pages(
    search: Callable[[Side], Callable[..., Any]], *, ordered: bool = True
) -> Callable[[Side, dict[str, Any]], dict[str, Any]]:
    """Follow a search through its pages.

    Args:
        search: the client's method.
        ordered: whether what is found has an order that all databases agree on.

    Returns:
        how many there are on each page, and what is on them.
    """

    def run(side: Side, arguments: dict[str, Any]) -> dict[str, Any]:
        found: list[object] = []
        sizes: list[int] = []
        token = None
        while len(sizes) < PAGES:
            answer = search(side)(**arguments, page_token=token)
            # A client gives a list with a token, its store the two of them.
            page, token = answer if isinstance(answer, tuple) else (answer, answer.token)
            found += page
            sizes.append(len(page))
            if not token:
                break
        else:
            sizes.append(-1)  # it does not end
        return {"pages": sizes, "found" if ordered else "tags": found}

    return run


def reading(*operations: Operation) -> tuple[Operation, ...]:
    """Operations that change nothing."""
    return tuple(replace(each, reads=True) for each in operations)


def table(*groups: Sequence[Operation]) -> dict[str, Operation]:
    """Operations by their names."""
    return {operation.name: operation for group in groups for operation in group}


def names_in(steps: Iterable[Step], argument: str) -> Iterator[Name]:
    """The names that an argument has in these steps."""
    for step in steps:
        if isinstance(found := step.arguments.get(argument), Name):
            yield found
