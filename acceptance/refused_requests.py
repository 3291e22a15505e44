"""Requests of the client that the server must refuse."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from mlflow.exceptions import MlflowException

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOWN = 500
"""Characters of a refusal that a message shows."""


@contextmanager
def refused(
    attempt: str,
    *,
    code: str = "",
    match: str = "",
    errors: tuple[type[Exception], ...] = (MlflowException,),
) -> Iterator[None]:
    """Require that the server refuses what the client tries meanwhile.

    Args:
        attempt: what is tried: a noun in the singular, as in "a run in a deleted experiment".
        code: MLflow's code of the error; any without.
        match: a pattern of the error's text; any text without.
        errors: which the client may raise.
    """
    __tracebackhide__ = True
    refusal: Exception | None = None
    try:
        yield
    except errors as error:
        refusal = error
    if refusal is None:
        pytest.fail(f"{attempt} was not refused: it succeeded")
    text = str(refusal)[:SHOWN]
    if code:
        found = getattr(refusal, "error_code", None)
        assert found == code, f"{attempt} was refused with {found} instead of {code}: {text}"
    assert re.search(match, str(refusal)), (
        f"{attempt} was refused, but not with the words {match!r}: {text}"
    )
