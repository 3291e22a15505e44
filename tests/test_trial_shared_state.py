"""What the processes of one run share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from seatrial.errors import UserError
from seatrial.trial.shared_state import SharedState

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def calls() -> list[int]:
    """Grows with every value that is made."""
    return []


def test_value_is_made_once_for_all(tmp_path: Path, calls: list[int]) -> None:
    def make() -> dict[str, int]:
        calls.append(1)
        return {"calls": len(calls)}

    def ask(_: int) -> object:
        return SharedState(tmp_path).get("a/name: of any kind", make)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(8))) == [{"calls": 1}] * 8
    assert calls == [1]


def test_failure_is_the_same_for_all(tmp_path: Path, calls: list[int]) -> None:
    def fail() -> None:
        calls.append(1)
        raise UserError("it is not there")

    for _ in range(2):
        with pytest.raises(UserError, match=r"^it is not there$"):
            SharedState(tmp_path).get("name", fail)
    assert calls == [1]


def test_interrupted_value_is_made_by_the_next(tmp_path: Path) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SharedState(tmp_path).get("name", interrupted)
    assert SharedState(tmp_path).get("name", lambda: [1]) == [1]


def test_refusal_reaches_the_other_processes(tmp_path: Path) -> None:
    SharedState(tmp_path).require_no_fault()
    SharedState(tmp_path).refuse(UserError("nothing to try"))
    with pytest.raises(UserError, match=r"^nothing to try$"):
        SharedState(tmp_path).require_no_fault()
