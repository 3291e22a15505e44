"""Debian's root file system where no image registry answers: made from Debian's packages."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from seatrial import files, process
from seatrial.errors import UserError
from seatrial.project import builtin, command

SUITE = "trixie"
FOLDER = Path("bases/debian")
"""Folder below the project's state: a context of its bake file."""

# What Debian's "slim" images leave out as well.
_LEFT_OUT = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
)
# Files newer than this are dated back to it: the same packages give the same archive.
_EPOCH = "315532800"


@dataclass(frozen=True)
class Bootstrapped:
    """A root file system in the cache."""

    digest: str
    """`sha256:...` of the archive."""
    made: str
    """RFC 3339."""


def ensure(architecture: str, *, renew: bool = False) -> Bootstrapped:
    """Make the root file system of an architecture, unless the cache has it.

    Safe against builds at the same time and against builds that were killed.

    Args:
        architecture: `amd64` or `arm64`, in Debian's words.
        renew: make it anew, with the packages of today.

    Raises:
        UserError: mmdebstrap is missing or failed.
    """
    folder = builtin().kept(FOLDER)
    archive = folder / f"{architecture}.tar"
    notes = archive.with_suffix(".json")
    asked = datetime.now(UTC)
    with FileLock(folder / f"{architecture}.lock"):
        if archive.is_file() and notes.is_file():
            held = Bootstrapped(**json.loads(notes.read_text(encoding="utf-8")))
            # A concurrent build may have renewed it while this one waited for the lock.
            if not renew or datetime.fromisoformat(held.made) > asked:
                return held
        partial = archive.with_suffix(".partial")
        _make(architecture, partial)
        made = Bootstrapped(_digest(partial), datetime.now(UTC).isoformat(timespec="seconds"))
        # The notes go first and come last: an archive without them does not count.
        notes.unlink(missing_ok=True)
        partial.replace(archive)
        files.write_atomically(notes, json.dumps(asdict(made)))
    return made


def _make(architecture: str, target: Path) -> None:
    words = [
        "mmdebstrap",
        "--variant=minbase",
        "--format=tar",
        f"--architectures={architecture}",
        *(f"--dpkgopt={option}" for option in _LEFT_OUT),
        SUITE,
        str(target),
        *sources(index_targets()),
    ]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _EPOCH}
    try:
        with process.group(words, environment) as running:
            output, _ = running.communicate()
    except FileNotFoundError as error:
        raise UserError(
            "no image registry gives debian:trixie-slim, and mmdebstrap, which would make it from "
            f"Debian's packages, is not installed: run {command('setup')}"
        ) from error
    if running.returncode:
        lines = output.decode(errors="replace").splitlines()
        faults = [line for line in lines if line.startswith("E:")]
        why = next(iter(faults or lines[-1:]), f"exit code {running.returncode}")
        raise UserError(f"mmdebstrap could not make Debian {SUITE} for {architecture}: {why}")


def sources(targets: str, suite: str = SUITE) -> list[str]:
    """Choose the package sources: the machine's own Debian mirror, where it names one.

    Args:
        targets: lines of `ORIGIN|LABEL|URI`, as `index_targets` gives them.
        suite: of Debian.

    Returns:
        Lines of a sources.list; none where mmdebstrap's defaults are as good.
    """
    found: dict[str, str] = {}
    for line in targets.splitlines():
        origin, label, uri = (*line.split("|", 2), "", "")[:3]
        # A container reaches a mirror over the network only.
        if origin == "Debian" and uri.startswith(("http://", "https://")):
            found.setdefault(label, uri)
    mirror, security = found.get("Debian"), found.get("Debian-Security")
    if not mirror:
        return []
    lines = [f"deb {mirror} {name} main" for name in (suite, f"{suite}-updates")]
    return [*lines, f"deb {security} {suite}-security main"] if security else lines


def index_targets() -> str:
    """Ask the machine's apt for its package sources; empty where there is none."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)"]
    return process.output(command) or ""


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
