"""Way of this machine to what is installed: its proxies, and the package index it uses."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from seatrial import private
from seatrial.engine import trust

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
_INDEXES = {
    "UV_DEFAULT_INDEX": ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"),
    "UV_INDEX": ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL"),
}
"""uv's variables, and the ones that say the same to uv or pip, the most telling first."""


def proxies(machine: Mapping[str, str]) -> dict[str, str]:
    """Collect the machine's proxies, for programs that look for either spelling."""
    found = {name: machine.get(name) or machine.get(name.lower()) for name in _PROXIES}
    return {
        spelling: value
        for name, value in found.items()
        if value
        for spelling in (name, name.lower())
    }


def indexes(machine: Mapping[str, str]) -> dict[str, str]:
    """Collect the machine's package indexes, for uv and for pip."""
    found: dict[str, str] = {}
    for names in _INDEXES.values():
        value = next((machine[name] for name in names if machine.get(name)), "")
        if value:
            found[names[0]] = found[names[-1]] = value
    return found


@contextmanager
def secrets() -> Iterator[dict[str, str]]:
    """Give the bake file's variables that tell builds of it, by way of secrets."""
    with tempfile.TemporaryDirectory(prefix="seatrial-build-") as folder:
        file = Path(folder) / "proxies"
        settings = {**proxies(os.environ), **indexes(os.environ)}
        private.write(file, "".join(f"{name}={value}\n" for name, value in settings.items()))
        yield {"AUTHORITIES": str(trust.bundle() or ""), "PROXIES": str(file)}


def variables() -> dict[str, str]:
    """Copy this process's variables, with the package index under uv's names."""
    return {**os.environ, **indexes(os.environ)}
