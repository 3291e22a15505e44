"""The comparison of two images, as its JSON holds it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1
"""Of the schema. It grows when a reader of the old one would misread the new one."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Side(_Part):
    """One of the two images."""

    reference: str
    digest: str
    """Of the platform's manifest."""
    size: int
    """Bytes that a pull transfers."""
    layers: int
    promised: bool
    """False where no contract and no record says what it promises."""


class Change(_Part):
    """One thing that is there on one side alone, or differs."""

    name: str
    old: str | None
    """None where it is not there."""
    new: str | None


class LayerChange(_Part):
    """A layer of one side alone."""

    digest: str
    size: int
    """Bytes, compressed."""
    side: Literal["old", "new"]


class Comparison(_Part):
    """Everything that has changed, for one platform."""

    schema_version: Literal[1] = Field(
        default=1, description="grows when a reader of the old schema would misread the new one"
    )
    platform: str
    old: Side
    new: Side
    promises: tuple[Change, ...]
    """Values in the contracts; of records, what their trials say. Empty where one side has none."""
    debian: tuple[Change, ...]
    python: tuple[Change, ...]
    settings: tuple[Change, ...]
    """Of the image's configuration: user, entry point, variables, labels, ..."""
    layers: tuple[LayerChange, ...]
    shared: int
    """Bytes of the layers that both sides have."""
