"""The words in which a wrong prediction is told."""

from __future__ import annotations

import math

import pytest

from acceptance.predictions import difference


@pytest.mark.parametrize(
    ("found", "expected", "tolerance", "said"),
    [
        ([1.0, 2], [1, 2.0], 0.0, ""),
        ([math.nan], [math.nan], 0.0, ""),
        ([{"x": 0.1}], [{"x": 0.1 + 1e-18}], 0.0, ""),
        ([{"x": 0.1}], [{"x": 0.1 + 1e-16}], 1e-9, ""),
        ([{"x": 0.1}], [{"x": 0.1 + 1e-16}], 0.0, "predictions[0]['x'] is 0.1 instead of 0.1000"),
        ([2**53], [2**53 + 1], 1e-9, "predictions[0] is 9007199254740992 instead of"),
        ([2**1024], [0.1], 1e-9, "predictions[0] is 1797"),
        ([3], [3.0000000001], 1e-9, ""),
        ([None], [math.nan], 0.0, ""),
        ([None, -math.inf], [math.inf, -math.inf], 0.0, ""),
        ([math.inf], [-math.inf], 1e-9, "predictions[0] is Infinity instead of -Infinity"),
        ([math.nan], [math.inf], 1e-9, "predictions[0] is NaN instead of Infinity"),
        ([math.nan], [None], 0.0, "predictions[0] is NaN instead of null"),
        ([2.0**53], [2**53 + 1], 1e-9, "predictions[0] is 9007199254740992.0 instead of"),
        ([2.0**53], [2**53 + 1], 0.0, "predictions[0] is 9007199254740992.0 instead of"),
        ([1, True], [1, 1], 0.0, "predictions[1] is true instead of 1"),
        ([[1, 2], [3, 5]], [[1, 2], [3, 4]], 1e-9, "predictions[1][1] is 5 instead of 4"),
        ([1, 2], [1, 2, 3], 0.0, "predictions are 2 instead of 3"),
        ([{"y": 1}], [{"x": 1}], 0.0, 'predictions[0] is {"y": 1} instead of {"x": 1}'),
        (["a"], [None], 0.0, 'predictions[0] is "a" instead of null'),
        (None, [1], 0.0, "predictions is null instead of [1]"),
    ],
)
def test_difference(found: object, expected: object, tolerance: float, said: str) -> None:
    different = difference(found, expected, tolerance)
    assert different.startswith(said)
    assert bool(different) == bool(said)
