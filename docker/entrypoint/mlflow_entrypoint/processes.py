"""Tell the process that serves from others."""

from __future__ import annotations

from itertools import pairwise

_MODULES = ("uvicorn", "gunicorn", "waitress")


def serves(arguments: list[str]) -> bool:
    """Whether these are the arguments of the process that `mlflow server` starts to serve.

    They can follow those of an emulator.
    """
    return any(first == "-m" and second in _MODULES for first, second in pairwise(arguments))
