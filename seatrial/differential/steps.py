"""Sequences of operations as plain data: they can be generated, shrunk, printed and repeated.

An argument is a plain value, a list or a table of them, or a `Later`: what only stands for a value
until the step is run, since it has another one on each server.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_LONG = 20
"""Characters from which on a text of one letter is shown as a product."""
UNKNOWN = {"experiment": "987654321"}
"""Ids of what was never made, by its kind, where they have another form than a run's."""


@dataclass
class World:
    """What one sequence has made on one server."""

    prefix: str
    """What the names of the sequence begin with, so that no other sequence has them."""
    ids: dict[str, str] = field(default_factory=dict)
    """What the server calls the things that the sequence has made, by their labels."""
    times: dict[tuple[object, ...], float] = field(default_factory=dict)
    """Times that the server made, as last seen, by what they are of and by their field."""


class Later:
    """An argument that is known when its step is run."""

    def resolved(self, world: World) -> object:
        """The argument's value on one server."""
        raise NotImplementedError

    def shown(self) -> str:
        """The argument as Python code."""
        raise NotImplementedError


@dataclass(frozen=True)
class Ref(Later):
    """The id of what an earlier step has made."""

    label: str

    def resolved(self, world: World) -> str:
        """The id; one that no server has where the step has failed."""
        kind = self.label.rpartition("_")[0]
        return world.ids.get(self.label, UNKNOWN.get(kind, "0" * 32))

    def shown(self) -> str:
        """The label."""
        return self.label


@dataclass(frozen=True)
class Name(Later):
    """A name in a space that all clients of a server share."""

    text: str

    def resolved(self, world: World) -> str:
        """The name behind the sequence's prefix."""
        return f"{world.prefix}{self.text}"

    def shown(self) -> str:
        """The name without the prefix."""
        return shown(self.text)


@dataclass(frozen=True)
class Filled(Later):
    """A text, such as a search's filter, with ids and names in it."""

    template: str
    """As for `str.format`."""
    parts: tuple[object, ...] = ()

    def resolved(self, world: World) -> str:
        """The text with what its parts are on one server."""
        return self.template.format(*(resolve(part, world) for part in self.parts))

    def shown(self) -> str:
        """The text with the labels of ids in braces, as an f-string."""
        plain = [part.text if isinstance(part, Name) else part for part in self.parts]
        refs = any(isinstance(part, Ref) for part in plain)
        filled = self.template.format(
            *(f"{{{part.shown()}}}" if isinstance(part, Later) else part for part in plain)
        )
        return f"{'f' if refs else ''}{filled!r}"


@dataclass(frozen=True)
class Built(Later):
    """An object of MLflow's, such as a metric."""

    make: Callable[..., object]
    arguments: tuple[tuple[str, object], ...]

    def resolved(self, world: World) -> object:
        """The object."""
        return self.make(**{name: resolve(value, world) for name, value in self.arguments})

    def shown(self) -> str:
        """The call that makes it."""
        return f"{self.make.__name__}({shown_arguments(dict(self.arguments))})"


@dataclass(frozen=True)
class Step:
    """One call of a client."""

    operation: str
    """Its name in the table of operations."""
    arguments: Mapping[str, object]
    makes: str = ""
    """The label of what it makes."""
    optional: frozenset[str] = frozenset()
    """The arguments that may be left out."""

    def resolved(self, world: World) -> dict[str, Any]:
        """The arguments on one server."""
        return {name: resolve(value, world) for name, value in self.arguments.items()}

    def simpler(self) -> Iterator[Step]:
        """The same step with less in one of its arguments, or without it."""
        for name, value in self.arguments.items():
            rest = {key: each for key, each in self.arguments.items() if key != name}
            if name in self.optional:
                yield replace(self, arguments=rest)
            if isinstance(value, (list, tuple)):
                for number in range(len(value)):
                    less = [*value[:number], *value[number + 1 :]]
                    yield replace(self, arguments={**self.arguments, name: less})
            if isinstance(value, dict):
                for key in value:
                    fewer = {one: each for one, each in value.items() if one != key}
                    yield replace(self, arguments={**self.arguments, name: fewer})

    def __str__(self) -> str:
        """The step as a line of Python."""
        call = f"client.{self.operation}({shown_arguments(self.arguments)})"
        return f"{self.makes} = {call}" if self.makes else call


def resolve(value: object, world: World) -> object:
    """The value that an argument has on one server."""
    if isinstance(value, Later):
        return value.resolved(world)
    if isinstance(value, dict):
        return {key: resolve(each, world) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolve(each, world) for each in value]
    return value


def shown(value: object) -> str:
    """An argument as Python code."""
    if isinstance(value, Later):
        return value.shown()
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {shown(each)}' for key, each in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, float) and value - value != 0:
        return f"float('{value}')"
    if isinstance(value, str) and len(value) > _LONG and len(set(value)) == 1:
        return f"{value[0]!r} * {len(value)}"
    return repr(value)


def shown_arguments(arguments: Mapping[str, object]) -> str:
    """The arguments of a call as Python code."""
    return ", ".join(f"{name}={shown(value)}" for name, value in arguments.items())
