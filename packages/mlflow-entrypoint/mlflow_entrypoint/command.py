"""Command that the container was told to run."""

from __future__ import annotations

from typing import NamedTuple

SERVERS = ("server", "ui")
_ENVIRONMENT_FILE = "--env-file"


class Command(NamedTuple):
    """A command line of `mlflow`."""

    general: list[str]
    """Options of the program itself, before the subcommand."""
    rest: list[str]
    """The subcommand and what follows it."""

    @property
    def starts_server(self) -> bool:
        """Tell whether it runs a server, not merely tells about it."""
        return self.rest[0] in SERVERS and "--help" not in self.rest

    @property
    def environment_files(self) -> list[str]:
        """The files of variables that MLflow is told to read."""
        words = iter(self.general)
        return [
            word.partition("=")[2] if "=" in word else next(words, "")
            for word in words
            if word.partition("=")[0] == _ENVIRONMENT_FILE
        ]


def read(arguments: list[str]) -> Command:
    """Read a command line: `mlflow` before it is dropped, and none at all is the server."""
    words = arguments[1:] if arguments[:1] == ["mlflow"] else list(arguments)
    length = 0
    while length < len(words) and words[length].partition("=")[0] == _ENVIRONMENT_FILE:
        length += 1 if "=" in words[length] else 2
    return Command(words[:length], words[length:] or ["server"])
