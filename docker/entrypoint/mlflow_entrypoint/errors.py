"""What ends the entry point with one line."""

from __future__ import annotations

import sys


class EntrypointError(Exception):
    """Something that whoever runs the image can mend; the message is one line without secrets."""


def say(message: str) -> None:
    """Write one line to the container's log."""
    sys.stderr.write(f"mlflow-entrypoint: {message}\n")
    sys.stderr.flush()
