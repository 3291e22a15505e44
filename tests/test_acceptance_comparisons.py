"""The sentences in which acceptance tests tell that something else came back than was written."""

from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from acceptance.comparisons import assert_equal, assert_hidden, difference
from acceptance.refused_requests import refused

MANY = {f"param/{number}": str(number) for number in range(90)}
LONG = list(range(400))


@pytest.mark.parametrize(
    ("found", "expected", "words"),
    [
        ("FINISHED", "FAILED", "'FINISHED' instead of 'FAILED'"),
        ([], [0, 1, 2], "[] instead of [0, 1, 2]"),
        (None, "yes", "None instead of 'yes'"),
        (MANY | {"param/7": "6"}, MANY, "different in 1 of 90, such as 'param/7': '6' instead of"),
        (
            {name: value for name, value in (MANY | {"x": "1"}).items() if name != "param/3"},
            MANY,
            "without 1 of 90, such as 'param/3'; with 1 too many, such as 'x'",
        ),
        (set(LONG[:-1]), set(LONG), "without 1 of 400, such as 399"),
        (LONG[:7] + LONG[8:], LONG, "399 long instead of 400; different from index 7 on: [8] inst"),
        (LONG[:9], LONG, "9 long instead of 400"),
        ("a" * 300, "a" * 299 + "b", "different from index 299 on: 'a' instead of 'b'"),
        (b"a" * 300, b"a" * 301, "300 long instead of 301"),
        (LONG, None, f"{str(LONG)[:200]}... (1890 characters) instead of None"),
    ],
)
def test_difference(found: object, expected: object, words: str) -> None:
    assert difference(found, expected).startswith(words)


def test_equal_values_pass() -> None:
    assert_equal("the status", "FAILED", "FAILED")


def test_other_value_is_told() -> None:
    with pytest.raises(AssertionError, match="the status is 'FINISHED' instead of 'FAILED'"):
        assert_equal("the status", "FINISHED", "FAILED")


def test_text_without_the_secret_passes() -> None:
    assert_hidden("the server's log", "hunter2", "connecting as seatrial:***@postgres\n")


def test_secret_is_told_and_not_shown() -> None:
    with pytest.raises(AssertionError) as failure:
        assert_hidden("the server's log", "hunter2", "begin\nas me:hunter2@postgres\nhunter2")
    words = "the server's log shows a password, in 2 lines, such as 'as me:***@postgres'"
    assert str(failure.value) == words


def no_such_run() -> None:
    raise MlflowException("no such run", error_code=RESOURCE_DOES_NOT_EXIST)


def test_refusal_passes() -> None:
    with refused("a look at a run", code="RESOURCE_DOES_NOT_EXIST", match="no such"):
        no_such_run()


@pytest.mark.parametrize(
    ("code", "match", "words"),
    [
        ("BAD_REQUEST", "", "a look at a run was refused with RESOURCE_DOES_NOT_EXIST instead of"),
        ("", "deleted", "a look at a run was refused, but not with the words 'deleted': no such"),
    ],
)
def test_other_refusal_is_told(code: str, match: str, words: str) -> None:
    with (
        pytest.raises(AssertionError, match=words),
        refused("a look at a run", code=code, match=match),
    ):
        no_such_run()


def test_missing_refusal_is_told() -> None:
    words = "a look at a run was not refused: it succeeded"
    with pytest.raises(pytest.fail.Exception, match=words), refused("a look at a run"):
        pass


def test_other_errors_go_through() -> None:
    with pytest.raises(ZeroDivisionError), refused("a look at a run"):
        _ = 1 / 0
