"""The docker client, with options that the commands of a user have no way to hand on to it."""

from __future__ import annotations

import os
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING

from seatrial import scratch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAME = "docker"


@contextmanager
def with_options(*options: str) -> Iterator[dict[str, str]]:
    """Have every build that a command starts with `docker` get options.

    Yields:
        The variables for that command.
    """
    if not options:
        yield {}
        return
    with scratch.folder() as folder:
        program = folder / NAME
        program.write_text(wrapper(options), encoding="utf-8")
        program.chmod(0o755)
        yield {"PATH": os.pathsep.join((str(folder), os.environ["PATH"]))}


def wrapper(options: Sequence[str]) -> str:
    """Write a shell script that runs the next `docker` on the PATH, its builds with options.

    It is for a folder of its own, the first on the PATH.
    """
    added = shlex.join(options)
    builds = f'"build "* | "buildx bake") exec {NAME} "$@" {added} ;;'
    return f'#!/bin/sh\nPATH=${{PATH#*:}}\ncase "$1 $2" in {builds} esac\nexec {NAME} "$@"\n'
