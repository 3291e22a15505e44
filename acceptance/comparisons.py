"""Comparisons of what was found with what was written, whose failures read as sentences."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet

SHORT = 200
"""Characters of a value that a message shows whole."""


def assert_equal(compared: str, found: object, expected: object) -> None:
    """Require what was written, or say what is there in its place.

    Args:
        compared: a noun in the singular, with where it was looked at and who wrote it, as
            in "the status, in the database, of the run that the client ended".
        found: there.
        expected: there.
    """
    __tracebackhide__ = True
    assert found == expected, f"{compared} is {difference(found, expected)}"


def assert_hidden(place: str, secret: str, text: str) -> None:
    """Require a text without a secret, which a failure doesn't show either.

    Args:
        place: where the text was looked at.
        secret: that must not stand in the text.
        text: a log, or what a program prints.
    """
    __tracebackhide__ = True
    lines = [line for line in text.splitlines() if secret in line]
    first = _shown(lines[0].replace(secret, "***")) if lines else ""
    # A bare comparison would have pytest print both sides of it.
    hidden = secret not in text
    assert hidden, f"{place} shows a password, in {len(lines)} lines, such as {first}"


def difference(found: object, expected: object) -> str:
    """Put the difference between two values into words: both, or what differs in long ones."""
    parts: list[str] = []
    if len(repr(found)) > SHORT or len(repr(expected)) > SHORT:
        if isinstance(found, Mapping) and isinstance(expected, Mapping):
            parts = [*_of_members(found, expected), *_of_values(found, expected)]
        elif isinstance(found, AbstractSet) and isinstance(expected, AbstractSet):
            parts = _of_members(found, expected)
        elif isinstance(found, Sequence) and isinstance(expected, Sequence):
            parts = _of_items(found, expected)
    return "; ".join(parts) or f"{_shown(found)} instead of {_shown(expected)}"


def _of_members(found: Collection[object], expected: Collection[object]) -> list[str]:
    missing = [member for member in expected if member not in found]
    added = [member for member in found if member not in expected]
    parts = []
    if missing:
        parts.append(f"without {len(missing)} of {len(expected)}, such as {_shown(missing[0])}")
    if added:
        parts.append(f"with {len(added)} too many, such as {_shown(added[0])}")
    return parts


def _of_values(found: Mapping[object, object], expected: Mapping[object, object]) -> list[str]:
    changed = [key for key in expected if key in found and found[key] != expected[key]]
    if not changed:
        return []
    key = changed[0]
    both = f"{_shown(found[key])} instead of {_shown(expected[key])}"
    return [f"different in {len(changed)} of {len(expected)}, such as {_shown(key)}: {both}"]


def _of_items(found: Sequence[object], expected: Sequence[object]) -> list[str]:
    parts = []
    if len(found) != len(expected):
        parts.append(f"{len(found)} long instead of {len(expected)}")
    for index, (item, wanted) in enumerate(zip(found, expected, strict=False)):
        if item != wanted:
            first = slice(index, index + 1)
            both = f"{_shown(found[first])} instead of {_shown(expected[first])}"
            parts.append(f"different from index {index} on: {both}")
            break
    return parts


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHORT else f"{text[:SHORT]}... ({len(text)} characters)"
