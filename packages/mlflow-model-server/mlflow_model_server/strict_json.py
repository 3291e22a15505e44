"""Predictions in JSON as RFC 8259 has it, which knows no NaN and no infinity.

MLflow prints them as Python does (`NaN`, `Infinity`, `-Infinity`), and most parsers of other
languages refuse the whole answer. They become null, as in JavaScript's JSON.stringify and pandas'
to_json.
"""

from __future__ import annotations

import json


def strict(body: bytes) -> bytes:
    """An answer with null for each number that isn't finite.

    Args:
        body: JSON as Python writes it.
    """
    return _rewritten(body) if _may_hold_constants(body) else body


def _may_hold_constants(body: bytes) -> bool:
    """Tell whether these words are there, if only in a text.

    A single byte is looked for at twenty times the speed of a word, and numbers have none of these.
    """
    return (b"N" in body and b"NaN" in body) or (b"I" in body and b"Infinity" in body)


def _rewritten(body: bytes) -> bytes:
    values = json.loads(body, parse_constant=lambda _: None)
    return json.dumps(values, allow_nan=False).encode()
