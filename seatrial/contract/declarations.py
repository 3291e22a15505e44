"""Declarations of the schema's keys, read from its fields."""

from __future__ import annotations

import difflib
import functools
import json
import re
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin

from seatrial.contract.declaring import Needs, Section, Trait
from seatrial.contract.schema import Contract
from seatrial.errors import UserError, printable
from seatrial.project import command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

    from seatrial.contract.declaring import Need


@dataclass(frozen=True)
class Declaration:
    """Key of a section: what it promises, and how that is tried."""

    section: str
    name: str
    field: FieldInfo
    section_type: type[Section]

    @property
    def key(self) -> str:
        """Section and name, joined by a dot."""
        return f"{self.section}.{self.name}"

    @property
    def meaning(self) -> str:
        """Meaning of the promise, on one line."""
        return self._paragraphs[0]

    @property
    def procedure(self) -> str:
        """Procedure of its test, where the schema says more than the meaning does; on one line."""
        return " ".join(self._paragraphs[1:])

    @property
    def _paragraphs(self) -> list[str]:
        return [
            " ".join(paragraph.split())
            for paragraph in (self.field.description or "").split("\n\n")
        ]

    @property
    def summary(self) -> str:
        """The first sentence of its meaning."""
        return re.split(r"(?<=\.) (?=[A-Z`])", self.meaning, maxsplit=1)[0]

    @property
    def value(self) -> str:
        """Value that may stand behind the key, in words."""
        if Trait.FILE in self.traits:
            return "the path of a file"
        shapes = self.section_type.model_json_schema()["properties"][self.name]["anyOf"]
        return _in_words(next(shape for shape in shapes if shape["type"] != "null"))

    @property
    def tried(self) -> str:
        """Unit in which its promises are tried, in words."""
        if not self.itemwise:
            return "whole"
        return "each item, alike" if self.alike else "each item"

    @property
    def requirements(self) -> str:
        """Requirements in words; empty where there are none."""
        return "; ".join(
            f"{requirement.need.label} for {', '.join(requirement.only)}"
            if requirement.only
            else requirement.need.label
            for requirement in self.needs
        )

    @property
    def itemwise(self) -> bool:
        """Tell whether each item of the value is a promise of its own."""
        whole = {Trait.WHOLE, Trait.COMMAND}.intersection(self.traits)
        return get_origin(self._type) in (list, dict) and not whole

    @property
    def alike(self) -> bool:
        """Tell whether one test tries all items in one way, so that one mutant is enough."""
        return Trait.ALIKE in self.traits

    @property
    def uses_services(self) -> bool:
        """Tell if the trial of it shows more on PostgreSQL and S3 than on SQLite and a volume."""
        return not (self.section_type.without_services or Trait.WITHOUT_SERVICES in self.traits)

    @property
    def traits(self) -> frozenset[Trait]:
        """The marks of the key."""
        return frozenset(mark for mark in self.field.metadata if isinstance(mark, Trait))

    @property
    def needs(self) -> tuple[Needs, ...]:
        """Marks of what has to be there for it to be tried."""
        return tuple(mark for mark in self.field.metadata if isinstance(mark, Needs))

    def needs_of(self, item: str | None) -> frozenset[Need]:
        """Find what has to be there for one of its items to be tried."""
        return frozenset(
            requirement.need
            for requirement in self.needs
            if not requirement.only or item in requirement.only
        )

    def require_item(self, item: str | None) -> None:
        """Refuse an item that no contract can promise.

        Raises:
            UserError: naming the key, and the items that there are.
        """
        if item is None:
            return
        if not self.itemwise:
            raise UserError(f"{self.key} is one promise, without items such as '{printable(item)}'")
        (inner, *_) = get_args(self._type)
        known = get_args(inner) if get_origin(inner) is Literal else (item,)
        if item not in known:
            raise UserError(
                f"{self.key} has no item '{printable(item)}': known are {', '.join(known)}"
            )

    @property
    def _type(self) -> object:
        """The type of its value, where there is one."""
        (known,) = (
            alternative
            for alternative in get_args(self.field.annotation)
            if alternative is not NoneType
        )
        return cast("object", known)


def _in_words(shape: Mapping[str, Any]) -> str:
    """Say what a JSON schema lets a contract hold."""
    if "const" in shape:
        return json.dumps(shape["const"])
    if "enum" in shape:
        return ", ".join(map(json.dumps, shape["enum"]))
    match shape["type"]:
        case "array":
            items = shape["items"]
            some = "enum" in items or "const" in items
            return f"some of {_in_words(items)}" if some else f"a list, each {_in_words(items)}"
        case "object":
            return "a table of strings"
        case "integer":
            least = shape.get("minimum", shape.get("exclusiveMinimum", -1) + 1)
            return f"{least} to {shape['maximum']}" if "maximum" in shape else f"{least} or more"
        case _:
            return f"a {shape['type']}"


@functools.cache
def sections() -> Mapping[str, type[Section]]:
    """The tables of a contract that hold promises, in the order of the schema."""
    return {
        name: field.annotation
        for name, field in Contract.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


@functools.cache
def declarations() -> Mapping[str, Declaration]:
    """Every key that can promise something, in the order of the schema."""
    every = (
        Declaration(section, name, field, section_type)
        for section, section_type in sections().items()
        for name, field in section_type.model_fields.items()
    )
    return {declaration.key: declaration for declaration in every}


def declaration(key: str) -> Declaration:
    """Find what the schema says about a key.

    Raises:
        UserError: no contract can have it.
    """
    found = declarations().get(key)
    if found is None:
        near = difflib.get_close_matches(key, declarations(), n=1, cutoff=0.8)
        hint = f"did you mean '{near[0]}'? " if near else ""
        shown = f"{command('promises')} shows those that there are"
        raise UserError(f"unknown promise '{printable(key)}': {hint}{shown}")
    return found
