"""Images, containers and volumes of an engine that does not run, found on this machine's disk.

An engine sees the images of one store only: switching from the classic store to containerd's, or
starting another engine on another folder, hides what is in the first one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from seatrial.engine.facts import CONTAINERD_STORE, Data

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_ROOT = Path("/var/lib/docker")
_SNAP_ROOT = Path("/var/snap/docker/common/var-lib-docker")
_CONTAINERD_ROOT = Path("/var/lib/containerd")
_BLOBS = Path("io.containerd.content.v1.content/blobs/sha256")
_OPTIONS = ("etc/default/docker", "etc/systemd/system/docker.service*/*.conf")
"""Files beside the daemon's configuration that may name a folder, as globs."""
_ROOT_OPTION = re.compile(r"(?:--data-root|--graph|(?<=\s)-g)[=\s]+[\"']?(/[^\s\"']+)")


def find(settings: Mapping[str, object] | None, root: Path = Path("/")) -> tuple[Data, ...]:
    """Find images, containers and volumes.

    Args:
        settings: of the daemon.
        root: of the machine.
    """
    settings = settings or {}
    named = [Path(str(settings[key])) for key in ("data-root", "graph") if key in settings]
    folders = dict.fromkeys((*named, *_in_options(root), DEFAULT_ROOT, _SNAP_ROOT))
    found = [data for folder in folders for data in _of_docker(_below(root, folder), folder)]
    blobs = _below(root, _CONTAINERD_ROOT) / _BLOBS
    if _count(blobs):
        found.append(Data(_CONTAINERD_ROOT, CONTAINERD_STORE, "images"))
    return tuple(found)


def _in_options(root: Path) -> Iterator[Path]:
    for pattern in _OPTIONS:
        for path in sorted(root.glob(pattern)):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            for line in lines:
                if not line.lstrip().startswith("#"):
                    yield from (Path(name) for name in _ROOT_OPTION.findall(line))


def _of_docker(folder: Path, name: Path) -> Iterator[Data]:
    containers, volumes = _folders(folder / "containers"), _folders(folder / "volumes")
    others = [
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in ((containers, "container"), (volumes, "volume"))
        if count
    ]
    stores = [
        (path.parent.name, _count(path / "content" / "sha256"))
        for path in _listed(folder / "image", "*/imagedb")
    ]
    full = [(store, count) for store, count in stores if count]
    for store, count in full:
        images = f"{count} image{'' if count == 1 else 's'}"
        yield Data(name, store, ", ".join([images, *others]))
        others = []
    if _count(folder / "containerd" / "daemon" / _BLOBS):
        yield Data(name, CONTAINERD_STORE, ", ".join(["images", *others]))
    elif others:
        yield Data(name, "", ", ".join(others))


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to(path.anchor)


def _folders(folder: Path) -> int:
    return sum(path.is_dir() for path in _listed(folder, "*"))


def _count(folder: Path) -> int:
    return len(_listed(folder, "*"))


def _listed(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))  # nothing where it may not be read
