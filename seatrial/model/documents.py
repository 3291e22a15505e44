"""Text and YAML files of a model, read within limits.

Whoever logged a model wrote them. YAML can be small as a file and huge or endless as a value:
aliases of aliases, thousands of levels, integers of a million digits.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from seatrial.errors import UserError, reason

if TYPE_CHECKING:
    from pathlib import Path

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Loader in C where PyYAML has it: in Python a mebibyte takes half a minute."""
_MOST_BYTES = 1 << 20
"""Bytes of a YAML file; an MLmodel of a thousand columns has a tenth of that."""
_MOST_VALUES = 100_000
"""Values of a document, each alias counted as what it stands for."""
_DEEPEST = 32
_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("binary", "map", "seq", "set", "str"))
"""Tags that PyYAML writes, or that leave a value as it is. Others make numbers and dates of any
text: of a million digits, or of a word, on which PyYAML fails by a KeyError or an IndexError."""
_LONGEST_PLAIN = 128
"""Characters of a scalar that may be read as a number or a date."""


def text(path: Path, most: int = _MOST_BYTES, of: str = "the model") -> str:
    """Read a text file of a model.

    Args:
        path: a regular file.
        most: bytes that it may have.
        of: what it belongs to, for the message.

    Raises:
        UserError: it is larger, or is not UTF-8.
    """
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise UserError(f"the {path.name} of {of} is larger than {most} bytes: shorten it")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"the {path.name} of {of} cannot be read: {reason(error)}; write it in UTF-8"
        ) from error


def read(path: Path, of: str = "the model") -> Any:  # noqa: ANN401 - whatever YAML says
    """Read a YAML file of a model: mappings, lists, strings, numbers, dates, nothing else.

    Args:
        path: a regular file.
        of: what it belongs to, for the message.

    Raises:
        UserError: it is no YAML, holds tags, or is beyond a limit.
    """
    content = text(path, of=of)
    try:
        _require_bounded(content)
        return yaml.load(content, Loader=_LOADER)  # noqa: S506 - of safe tags only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(
            f"the {path.name} of {of} cannot be read: {reason(error)}; log the model anew"
        ) from error


def _require_bounded(content: str) -> None:
    """Look through a document without making anything of it.

    Raises:
        ValueError: it is beyond a limit.
        yaml.YAMLError: it is no YAML.
    """
    sizes: dict[str, int] = {}
    # How many values each open collection has so far, and the anchor that it stands at.
    open_: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(content, Loader=_LOADER):
        tag = getattr(event, "tag", None) or "!"
        if tag not in ("!", *_TAGS):
            raise ValueError(f"it holds the tag {tag[:_LONGEST_PLAIN]!r}")
        if isinstance(event, yaml.ScalarEvent):
            if not event.style and len(event.value) > _LONGEST_PLAIN and _is_number(event):
                raise ValueError("a number has too many digits")
            size, anchor = 1, event.anchor
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError("an alias stands for what it is in, or for nothing")
            size, anchor = sizes[event.anchor], None
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, 1))
            if len(open_) > _DEEPEST:
                raise ValueError(f"it is nested more than {_DEEPEST} levels deep")
            continue
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_.pop()
        else:
            continue
        if anchor:
            sizes[anchor] = size
        outer, before = open_[-1]
        open_[-1] = (outer, before + size)
        if before + size > _MOST_VALUES:
            raise ValueError(f"it holds more than {_MOST_VALUES} values")


def _is_number(event: yaml.ScalarEvent) -> bool:
    """Tell whether YAML may read a scalar as a number or a date: `0x1f`, `1:30`, `1e3`."""
    return re.fullmatch(r"[0-9a-fA-FxoTZ_+.: \t-]*", event.value) is not None
