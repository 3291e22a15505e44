"""Versions that somebody has asked a build for, and that can't be had."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from uv import find_uv_bin

from seatrial import process
from seatrial.build import network

if TYPE_CHECKING:
    from seatrial.build.progress import BuildStep

_PIN = re.compile(r'--pin "?(?P<distribution>[\w.-]+)=(?P<version>[^\s"]+)"?')
"""Pin in a Dockerfile's command, which BuildKit reports with the values of its arguments."""
_UNSATISFIABLE = "we can conclude that your requirements are unsatisfiable."
_PATIENCE = 60
"""Seconds for one look at the package index."""


def explain(step: BuildStep) -> str:
    """Say which version of a failed step's pins does not exist.

    Returns:
        One line; empty where the step has failed for another reason.
    """
    text = " ".join(" ".join(step.tail()).split())
    if _UNSATISFIABLE not in text:
        return ""
    for pin in _PIN.finditer(step.action):
        wanted = f"{pin['distribution']}=={pin['version']}"
        if wanted in text and (_lacks(text, wanted) or _index_lacks(wanted)):
            return (
                f"there is no {pin['distribution']} {pin['version']} on the package index: ask for"
                " a version that there is (--arg)"
            )
    return ""


def _lacks(text: str, wanted: str) -> bool:
    return f"there is no version of {wanted} " in text


def _index_lacks(wanted: str) -> bool:
    """Ask this machine's package index.

    Where a requirement has extras, uv explains at length why other versions don't fit, and never
    says that the wanted one is not there.
    """
    command = [
        *(find_uv_bin(), "pip", "compile", "-", "--quiet", "--no-deps", "--no-build"),
        *("--no-python-downloads", "--no-config", "--color", "never"),
    ]
    try:
        asked = process.run(
            command, environment=network.variables(), text=wanted, seconds=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        return False
    return _lacks(" ".join(asked.stderr.split()), wanted)
