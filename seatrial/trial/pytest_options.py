"""The trial's options on pytest's command line, beside those of other plugins."""

from __future__ import annotations

from argparse import ArgumentError
from typing import Any

import pytest

from seatrial.trial.options import OPTIONS, Option, TrialOptions, explained

_OURS = tuple(option for option in OPTIONS if not option.of_pytest)
_SHORT_NAMES = pytest.StashKey[set[str]]()
"""The short names that no other plugin has."""


def add(parser: pytest.Parser) -> None:
    """Declare the options under the names that no other plugin has."""
    group = parser.getgroup("seatrial", "the trial of MLflow images")
    for option in _OURS:
        try:
            group.addoption(option.prefixed_flag, **_attributes(option))
        except (ArgumentError, ValueError):
            raise pytest.UsageError(
                f"{option.prefixed_flag} is an option of another plugin as well: leave one of the"
                " two out, such as with `-p no:NAME`"
            ) from None


def add_short_names(parser: pytest.Parser, config: pytest.Config) -> None:
    """Declare the options under their short names, but for those that another plugin has."""
    group = parser.getgroup("seatrial")
    added = set()
    for option in _OURS:
        try:
            same = {"help": f"the same as {option.prefixed_flag}"}
            group.addoption(option.flag, **_attributes(option) | same)
        except (ArgumentError, ValueError):
            continue
        added.add(option.flag)
    config.stash[_SHORT_NAMES] = added


def _attributes(option: Option) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "dest": option.destination,
        "metavar": option.metavar,
        "help": explained(option),
        "default": option.default,
    }
    if option.multiple:
        attributes |= {"action": "append", "default": []}
    return attributes


def were_given(config: pytest.Config) -> bool:
    """Whether any of the options was given on the command line."""
    return any(_value(config, option) not in (option.default, []) for option in _OURS)


def report(config: pytest.Config) -> str:
    """The folder for a report; empty where none was asked for."""
    (folder,) = (_value(config, option) for option in _OURS if option.name == "report")
    return str(folder)


def read(config: pytest.Config) -> TrialOptions:
    """Read the options.

    Raises:
        UserError: one is unknown, or two of them contradict each other.
    """
    given = {option.parameter: _value(config, option) for option in _OURS}
    return TrialOptions.of(given, config.stash.get(_SHORT_NAMES, None))


def _value(config: pytest.Config, option: Option) -> Any:  # noqa: ANN401 - a string or a list
    return getattr(config.option, option.destination)
