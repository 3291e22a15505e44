"""Answers of a model's server, compared with the predictions of the model in Python."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import requests

    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.model_server import ModelServer
    from seatrial.trial.model_cases import ModelCase, Payload

ACROSS_ARCHITECTURES = 1e-9
"""Relative tolerance of predictions on another architecture than the model's: there, the order of
additions in BLAS and fused multiplications differ in the last bits of a double, whose precision
is 1e-16, and a few thousand operations on values of like size add up to less than this."""


def assert_answered(
    answer: requests.Response, expected: object, image: ImageUnderTest, case: str = "the answer"
) -> None:
    """Require the model's predictions: the same bits natively, where the model was made.

    Args:
        answer: of a server.
        expected: predictions as JSON has them.
        image: which image, on which platform, has answered.
        case: what the request was about, for the message.
    """
    shown = f"{answer.status_code} {answer.text[:500]}"
    assert answer.status_code == HTTPStatus.OK, (
        f"{case}: predictions are due, and the model's server answers {shown}"
    )
    try:
        found = answer.json()["predictions"]
    except (ValueError, KeyError, TypeError):
        pytest.fail(f'{case}: the model\'s server answers without JSON of "predictions": {shown}')
    tolerance = 0.0 if image.native else ACROSS_ARCHITECTURES
    different = difference(found, expected, tolerance)
    assert not different, f"{case}: in the server's answer, {different}"


def assert_predicts(server: ModelServer, payload: Payload, case: str = "the answer") -> None:
    """Ask a server, and require the predictions that the payload was made with."""
    answer = server.ask(payload.body, payload.content_type)
    assert_answered(answer, payload.predictions, server.image, case)


def difference(found: object, expected: object, tolerance: float, place: str = "") -> str:
    """Put the first difference between two predictions into words; empty for none.

    Args:
        found: as JSON has it.
        expected: as JSON has it.
        tolerance: of numbers, relatively.
        place: where in the predictions the two stand.
    """
    parts: Sequence[tuple[object, object, object]]
    if isinstance(expected, dict) and isinstance(found, dict) and found.keys() == expected.keys():
        parts = [(key, found[key], expected[key]) for key in expected]
    elif isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        parts = list(zip(range(len(found)), found, expected, strict=True))
    elif isinstance(expected, list) and isinstance(found, list):
        return f"predictions{place} are {len(found)} instead of {len(expected)}"
    elif _same(found, expected, tolerance):
        return ""
    else:
        return f"predictions{place} is {_short(found)} instead of {_short(expected)}"
    faults = (
        difference(part, wanted, tolerance, f"{place}[{key!r}]") for key, part, wanted in parts
    )
    return next(filter(None, faults), "")


def _same(found: object, expected: object, tolerance: float) -> bool:
    # `true` is no number in JSON.
    if isinstance(found, bool) != isinstance(expected, bool):
        return False
    if found == expected:
        return True
    # Integers must be equal: as doubles, neighbours beyond 2**53 are the same number.
    if not isinstance(expected, float):
        return False
    if not math.isfinite(expected):
        # JSON has neither NaN nor infinities: MLflow writes them nevertheless, others write null.
        missing = isinstance(found, float) and math.isnan(found) and math.isnan(expected)
        return found is None or missing
    try:
        near = isinstance(found, int | float) and math.isclose(found, expected, rel_tol=tolerance)
    except OverflowError:  # an integer that no double reaches
        return False
    return tolerance > 0 and near


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def computed_predictions(case: ModelCase, payload: Payload) -> object:
    """Compute the predictions of the trial's own models from their weights, by plain arithmetic.

    An image that makes its own expectations, wrong ones, would otherwise agree with itself.

    Returns:
        predictions as JSON has them; None for a model that is not the trial's.
    """
    weights = case.weights
    if not weights:
        return None
    body = json.loads(case.payloads["inputs"].body)["inputs"]
    if "slope" in weights:
        return [_line(weights["slope"], weights["offset"], row) for row in body]
    if "classes" in weights:
        rows = zip(*body.values(), strict=True)
        return [_softmax(weights, row) for row in rows]
    parameters = {"scale": 2.0, "shift": 0.0}
    if payload is case.payloads.get("params"):
        parameters = json.loads(payload.body)["params"]
    return [{"x": x * parameters["scale"] + parameters["shift"]} for x in body["x"]]


def _line(slope: Sequence[float], offset: float, row: Sequence[float]) -> float:
    return math.fsum([offset, *(a * x for a, x in zip(slope, row, strict=True))])


def _softmax(weights: Any, row: Sequence[float]) -> list[float]:
    means, scales = weights["means"], weights["scales"]
    scaled = [(x - mean) / scale for x, mean, scale in zip(row, means, scales, strict=True)]
    sums = [_line(slope, offset, scaled) for slope, offset in weights["classes"]]
    powers = [math.exp(value - max(sums)) for value in sums]
    return [power / math.fsum(powers) for power in powers]
