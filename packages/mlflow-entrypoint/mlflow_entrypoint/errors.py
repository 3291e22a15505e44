"""Errors that end the entry point with one line."""

from __future__ import annotations

import sys


class EntrypointError(Exception):
    """Something that whoever runs the image can mend; the message is one line without secrets."""


def say(message: str) -> None:
    """Write one line to the container's log, whatever is in a name or an address."""
    line = "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in message
    )
    sys.stderr.write(f"mlflow-entrypoint: {line}\n")
    sys.stderr.flush()
