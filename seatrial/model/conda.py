"""Declarations of a model's conda.yaml that no image of the model will have.

Nothing of conda is installed: what an image holds is said by requirements.txt. So packages of
conda's, and what pip would install for that file alone, are named when the image is made.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from seatrial.errors import without_password
from seatrial.model import documents

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

_PACKAGE = re.compile(r"(?:[^\s:\[\]]+::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)")
_HAD = frozenset(("python", "pip", "setuptools", "wheel"))
"""Packages that every environment of MLflow's lists, and an image has or does not need."""
_CHANNELS = frozenset(("conda-forge", "defaults", "nodefaults"))
"""Channels that MLflow writes by itself."""
_SHOWN = 80


def unmet(path: Path, by_pip: Sequence[str], required: Collection[str]) -> Iterator[str]:
    """List what a conda.yaml declares beside the model's requirements.

    Args:
        path: the file.
        by_pip: the requirements that it has pip install, written anew.
        required: names of distributions that the image will have, normalised.
    """
    document = documents.read(path)
    if not isinstance(document, dict):
        return
    for entry in document.get("dependencies") or []:
        match = None if isinstance(entry, dict) else _PACKAGE.match(str(entry))
        name = canonicalize_name(match["name"]) if match else ""
        if not isinstance(entry, dict) and name not in _HAD and name not in required:
            yield f"{path.name} names {_shown(entry)}, a package of conda's, which is not installed"
    for line in by_pip:
        # What follows is its version, its extras, or its address.
        if canonicalize_name(re.split(r"[^A-Za-z0-9_.-]", line)[0]) not in required:
            yield f"{path.name} names {_shown(line)}, which requirements.txt does not"
    for channel in _listed(document.get("channels")):
        if channel not in _CHANNELS:
            yield f"{path.name} names the channel {_shown(channel)}, which is not asked"


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _shown(value: object) -> str:
    text = ascii(without_password(str(value)))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
