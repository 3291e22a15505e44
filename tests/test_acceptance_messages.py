"""Every failure of an acceptance test reads as a sentence: none is a comparison alone."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest
from repository import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDERS = ("acceptance", "seatrial/trial/inside")


def silent(source: str) -> Iterator[tuple[int, str]]:
    """Find what fails without a text of its own: line, and what it is."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Assert(msg=message) if _is_missing(message):
                yield node.lineno, "an assert without a message"
            case ast.Call(func=ast.Attribute(value=ast.Name("pytest"), attr="fail")):
                named = [word.value for word in node.keywords if word.arg == "reason"]
                if _is_missing(next(iter([*node.args, *named]), None)):
                    yield node.lineno, "pytest.fail without a reason"
            case ast.Raise(exc=ast.Name("AssertionError")):
                yield node.lineno, "an AssertionError without a text"
            case ast.Raise(exc=ast.Call(func=ast.Name("AssertionError"), args=texts)):
                if _is_missing(next(iter(texts), None)):
                    yield node.lineno, "an AssertionError without a text"


def _is_missing(message: ast.expr | None) -> bool:
    return message is None or (isinstance(message, ast.Constant) and not message.value)


def test_every_failure_has_a_message() -> None:
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert paths, f"no module is there below {ROOT}"
    faults = [
        f"{path.relative_to(ROOT)}:{line}: {fault}"
        for path in paths
        for line, fault in sorted(silent(path.read_text(encoding="utf-8")))
    ]
    assert not faults, (
        f"{len(faults)} failures would not say what was done, what came back and where:\n"
        + "\n".join(faults)
    )


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("assert a == b", [(1, "an assert without a message")]),
        ('assert a == b, ""', [(1, "an assert without a message")]),
        ('def test():\n    assert a, "b"\n    assert b', [(3, "an assert without a message")]),
        ('assert a == b, "the client reads b"', []),
        ('assert a == b, f"the client reads {b}"', []),
        ("assert a == b, sentence", []),
        ("pytest.fail()", [(1, "pytest.fail without a reason")]),
        ('pytest.fail("")', [(1, "pytest.fail without a reason")]),
        ('pytest.fail(pytrace=False, reason="")', [(1, "pytest.fail without a reason")]),
        ('pytest.fail("no answer")', []),
        ('pytest.fail(reason="no answer")', []),
        ("raise AssertionError", [(1, "an AssertionError without a text")]),
        ("raise AssertionError()", [(1, "an AssertionError without a text")]),
        ('raise AssertionError("no answer")', []),
        ("raise ValueError", []),
    ],
)
def test_silent_failures_are_found(source: str, found: list[tuple[int, str]]) -> None:
    assert list(silent(source)) == found
