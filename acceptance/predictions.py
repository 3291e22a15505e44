"""What a model's server answers, compared with what the model says in Python."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import requests

    from seatrial.stack.subject import Subject

ACROSS_ARCHITECTURES = 1e-9
"""How far, relatively, predictions on another architecture than the model's may be off: the order
of additions in BLAS and fused multiplications differ in the last bits of a double, whose precision
is 1e-16, and a few thousand operations on values of like size add up to less than this."""


def assert_answered(answer: requests.Response, expected: object, subject: Subject) -> None:
    """It has the model's predictions: the same bits natively, where the model was made.

    Args:
        answer: of a server.
        expected: predictions as JSON has them.
        subject: which image, on which platform, has answered.
    """
    assert answer.status_code == HTTPStatus.OK, f"{answer.status_code} {answer.text[:500]}"
    found = answer.json()["predictions"]
    if subject.native:
        assert found == expected, "other numbers than the model's in Python"
    else:
        assert _close(found, expected), f"{found} is too far from {expected}"


def _close(found: object, expected: object) -> bool:
    """Whether two predictions are alike, number by number."""
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(_close(found[key], expected[key]) for key in expected)
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(map(_close, found, expected))
        )
    return bool(found == pytest.approx(expected, rel=ACROSS_ARCHITECTURES))
