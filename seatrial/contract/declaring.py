"""Marks by which a key of the schema declares its promise.

The type of a key says which values it takes, and the string below it what it means. Markers in its
annotation say the rest, so that no other module needs a list of keys:

    databases: Annotated[list[Database] | None, Needs(Need.SERVICES, only=("mysql",))] = None
    '''Databases that the server keeps its runs in.'''
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Need(Enum):
    """Requirement without which a promise is not tried."""

    SERVICES = "services", "PostgreSQL and an S3 store, which only the full stack has"
    NATIVE = "native", "a machine of the image's own architecture: it is not tried under emulation"
    SOCKET = "engine socket", "an engine that answers at a socket of this machine"

    def __init__(self, label: str, meaning: str) -> None:
        self.label = label
        self.meaning = meaning


@dataclass(frozen=True)
class Needs:
    """Marks a key whose promises need something."""

    need: Need
    only: tuple[str, ...] = ()
    """The items that need it; empty for all of them."""


class Trait(Enum):
    """Marks a key that differs from others of its type."""

    WHOLE = auto()
    """A list that is one promise, rather than one for each item."""
    COMMAND = auto()
    """The words of a command: one promise, in which words may repeat."""
    ALIKE = auto()
    """Marks items that one test tries, with the item as its parameter; one mutant shows that it
    works. Without this mark each item has a test and a mutant of its own."""
    WITHOUT_SERVICES = auto()
    """A test on SQLite and a volume shows as much as one on PostgreSQL and S3: mutants start
    neither."""
    FILE = auto()
    """The path of a file, relative to the contract that names it."""


class Table(BaseModel):
    """A table of a contract: unknown keys, other types and duplicates in lists are errors."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )

    @field_validator("*")
    @classmethod
    def _refuse_duplicates(cls, value: object, info: ValidationInfo) -> object:
        assert info.field_name
        if (
            isinstance(value, list)
            and Trait.COMMAND not in cls.model_fields[info.field_name].metadata
            and len(set(value)) < len(value)
        ):
            raise ValueError("names the same thing twice")
        return value


class Section(Table):
    """A table whose keys are promises."""

    without_services: ClassVar[bool] = False
    """True if `Trait.WITHOUT_SERVICES` holds for each key."""
