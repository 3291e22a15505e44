"""Options that are declared once: pytest and `invoke test` agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from invoke.parser.context import ParserContext
from invoke.parser.parser import Parser

from seatrial import tasks
from seatrial.errors import UserError
from seatrial.trial import options
from seatrial.trial.options import OPTIONS, TrialOptions


def given(*words: str) -> dict[str, object]:
    """What invoke makes of a command line of the task `test`."""
    context = ParserContext("test", args=tasks.test.get_arguments())
    [parsed] = [each for each in Parser([context]).parse_argv(["test", *words]) if each.name]
    return {name.replace("-", "_"): each.value for name, each in parsed.args.items()}


def test_task_takes_every_option() -> None:
    words = [word for option in OPTIONS for word in (option.flag, f"a {option.name}")]
    values = given(*words)
    assert {option.parameter for option in OPTIONS} == values.keys()
    assert options.as_words(values) == words


def test_option_may_be_given_more_than_once() -> None:
    words = ["--variant", "one", "--variant", "two"]
    assert options.as_words(given(*words)) == words


def test_defaults_are_left_to_pytest() -> None:
    assert options.as_words(given()) == []


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (TrialOptions(), []),
        (TrialOptions(variants=("one", "two")), ["--variant", "one", "--variant", "two"]),
        (
            TrialOptions(image="made/up:1", contract=Path("x.toml"), stack="embedded"),
            ["--image", "made/up:1", "--contract", "x.toml", "--stack", "embedded"],
        ),
        (TrialOptions(effort="deep", seed=0), ["--effort", "deep", "--seed", "0"]),
        (
            TrialOptions(image="made/up:1", platform="arm64", flags=frozenset({"--platform"})),
            ["--platform", "arm64", "--seatrial-image", "made/up:1"],
        ),
    ],
)
def test_options_as_words(asked: TrialOptions, words: list[str]) -> None:
    assert asked.as_arguments() == words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--effort", "huge"), "unknown effort 'huge': known are quick, normal and deep"),
        (("--seed", "-1"), "--seed -1: it takes a whole number"),
        (("--report", "no/where"), "--report no/where: the folder above it does not exist"),
        (("--report", __file__), "it is no folder"),
        (("--seed", "one"), "--seed one: it takes a whole number"),
    ],
)
def test_wrong_value_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrialOptions.of(given(*words))
