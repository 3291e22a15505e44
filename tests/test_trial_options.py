"""Options that are declared once: pytest, `invoke test` and the documentation agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from invoke.parser.context import ParserContext
from invoke.parser.parser import Parser
from repository import ROOT

from seatrial import tasks
from seatrial.trial import options
from seatrial.trial.options import OPTIONS, TrialOptions

DOCUMENTED = ROOT / "docs" / "trial.md"


def given(*words: str) -> dict[str, object]:
    """What invoke makes of a command line of the task `test`."""
    context = ParserContext("test", args=tasks.test.get_arguments())
    [parsed] = [each for each in Parser([context]).parse_argv(["test", *words]) if each.name]
    return {name.replace("-", "_"): each.value for name, each in parsed.args.items()}


def test_document_has_the_table() -> None:
    text = DOCUMENTED.read_text(encoding="utf-8")
    found = re.search(r"<!-- options: .* -->\n(.*)\n<!-- end of options -->", text, re.DOTALL)
    assert found, f"{DOCUMENTED} has lost the marks around its table of options"
    assert found[1] == options.as_table(), f"put this between the marks:\n{options.as_table()}"


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
        (
            TrialOptions(image="made/up:1", platform="arm64", flags=frozenset({"--platform"})),
            ["--platform", "arm64", "--seatrial-image", "made/up:1"],
        ),
    ],
)
def test_options_as_words(asked: TrialOptions, words: list[str]) -> None:
    assert asked.as_arguments() == words
