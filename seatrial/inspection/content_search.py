"""Search of an image for what it promises to lack.

Programs count where a container finds them: in the file system that all layers make together. Bits,
authorities and secrets count in every layer: a later layer hides them, but they stay in the image.
"""

from __future__ import annotations

import posixpath
import shlex
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from seatrial.inspection import authorities, programs, secrets
from seatrial.inspection.authorities import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seatrial.contract.schema import Absence
    from seatrial.inspection.content import TraitName
    from seatrial.inspection.filesystem import Placed
    from seatrial.inspection.layer import LayerEntry
    from seatrial.inspection.layers import InspectedImage
    from seatrial.inspection.programs import Tool

_EXECUTABLE = 0o111
_BY_OTHERS = 0o002
_STICKY = 0o1000
_SET_ID = 0o6000
_SHARED_FOLDERS = ("/tmp", "/var/tmp", "/dev")  # noqa: S108 - world-writable by design
_INSTRUCTIONS = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL"),
    *("MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)
_BUILD_ARGUMENT = "build-arg:"


@dataclass(frozen=True)
class ContentFinding:
    """Something that the image should not have."""

    place: str
    """A path, or the part of the image's configuration."""
    layer: str
    """Layer of the path; empty for the configuration."""
    why: str

    def __str__(self) -> str:
        where = f" in {self.layer}" if self.layer else ""
        return f"{self.place}{where}: {self.why}"


def search(image: InspectedImage, absence: Absence) -> list[ContentFinding]:
    """Find everything in `image` that breaks its promise to lack `absence`."""
    return list(dict.fromkeys(_SEARCHES[absence](image)))


def of_other_machines(image: InspectedImage, machine: str) -> list[ContentFinding]:
    """Find the programs and libraries that a container sees and that other machines are for.

    Args:
        image: one platform of an image.
        machine: as Linux calls it, such as `x86_64`.
    """
    return [
        _found(image, path, placed, f"made for {made_for}")
        for path, placed in image.files.entries.items()
        for made_for in _details(placed.entry, "machine")
        if made_for != machine
    ]


def _shells(image: InspectedImage) -> Iterator[ContentFinding]:
    yield from _programs(image, "shell")
    for path, placed in image.files.entries.items():
        for line in _details(placed.entry, "interpreter"):
            command = _interpreter(line)
            if placed.entry.mode & _EXECUTABLE and programs.name_says("shell", command):
                yield _found(image, path, placed, f"a script for a shell: #!{line}")


def _interpreter(line: str) -> str:
    """Read which program a script's first line asks for, through `env` as well."""
    words = line.split()
    names = [posixpath.basename(word) for word in words]
    if names[0] == "env":
        names = [name for name in names[1:] if not name.startswith("-") and "=" not in name]
    return names[0] if names else ""


def _programs(image: InspectedImage, tool: Tool) -> Iterator[ContentFinding]:
    files = image.files
    direct = {
        path: why
        for path, placed in files.entries.items()
        if placed.entry.type == "file" and (why := _why_program(placed.entry, tool))
    }
    for path, why in direct.items():
        yield _found(image, path, files.entries[path], why)
    for path, placed in files.entries.items():
        if placed.entry.type != "symlink":
            continue
        target = files.resolve(path)
        if target in direct:
            yield _found(image, path, placed, f"a link to {target}, which {direct[target]}")
        elif (
            target
            and programs.name_says(tool, posixpath.basename(path))
            and _runs(files.entries.get(target))
        ):
            yield _found(image, path, placed, f"is named like a {tool}, and leads to {target}")


def _runs(placed: Placed | None) -> bool:
    return (
        placed is not None and placed.entry.type == "file" and bool(placed.entry.mode & _EXECUTABLE)
    )


def _why_program(entry: LayerEntry, tool: Tool) -> str | None:
    for detail in _details(entry, tool):
        return detail
    if programs.is_module(tool, entry.path):
        return f"is a module of a {tool}"
    if entry.mode & _EXECUTABLE and programs.name_says(tool, posixpath.basename(entry.path)):
        return f"is named like a {tool}"
    return None


def _set_ids(image: InspectedImage) -> Iterator[ContentFinding]:
    for layer, entry in _every(image):
        if entry.type == "file" and entry.mode & _SET_ID:
            yield ContentFinding(entry.path, layer, f"has mode {entry.mode:04o}: setuid or setgid")
        for detail in _details(entry, "capability"):
            yield ContentFinding(entry.path, layer, detail)


def _world_writables(image: InspectedImage) -> Iterator[ContentFinding]:
    for layer, entry in _every(image):
        if entry.type not in ("file", "folder", "device") or not entry.mode & _BY_OTHERS:
            continue
        is_shared = entry.path in _SHARED_FOLDERS
        inside = any(entry.path.startswith(f"{folder}/") for folder in _SHARED_FOLDERS)
        if is_shared and not entry.mode & _STICKY:
            yield ContentFinding(
                entry.path, layer, f"has mode {entry.mode:04o}: anybody may remove others' files"
            )
        elif not is_shared and not inside:
            yield ContentFinding(
                entry.path, layer, f"has mode {entry.mode:04o}: anybody may write to it"
            )


def _private_authorities(image: InspectedImage) -> Iterator[ContentFinding]:
    public = authorities.public()
    for layer, entry in _every(image):
        for detail in _details(entry, "authority"):
            authority = Authority.parse(detail)
            if authority.fingerprint not in public:
                yield ContentFinding(
                    entry.path, layer, f"holds the private authority {authority.name}"
                )


def _secrets(image: InspectedImage) -> Iterator[ContentFinding]:
    for layer, entry in _every(image):
        for detail in _details(entry, "secret"):
            yield ContentFinding(entry.path, layer, f"holds {detail}")
    config = image.stored.config
    for assignment in config.get("Env") or ():
        name, _, value = assignment.partition("=")
        for why in secrets.found_in_variable(name, value):
            yield ContentFinding(f"the variable {name}", "", why)
    for name, value in (config.get("Labels") or {}).items():
        for why in secrets.found_in_variable(name, value):
            yield ContentFinding(f"the label {name}", "", why)
    commands = {
        "Entrypoint": config.get("Entrypoint"),
        "Cmd": config.get("Cmd"),
        "Healthcheck": (config.get("Healthcheck") or {}).get("Test"),
    }
    for part, words in commands.items():
        for why in secrets.found_in_command(shlex.join(words or ())):
            yield ContentFinding(part, "", why)
    for number, step in enumerate(image.stored.history, start=1):
        for why in secrets.found_in_command(step):
            of = f"step {number} of {len(image.stored.history)}"
            yield ContentFinding("the history", "", f"{why}, in {of} ({_instruction(step)})")
    for name, value in _build_arguments(image.stored.provenance):
        for why in secrets.found_in_variable(name, value):
            yield ContentFinding("the provenance", "", f"{why}, in the build argument {name}")


def _instruction(step: str) -> str:
    """Name a step's instruction, and nothing else of it: any word may be a secret."""
    return next((word for word in step.split()[:2] if word in _INSTRUCTIONS), "a command")


def _build_arguments(document: object) -> Iterator[tuple[str, str]]:
    """Find the build arguments in a provenance attestation, wherever its version keeps them."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key.startswith(_BUILD_ARGUMENT) and isinstance(value, str):
                yield key.removeprefix(_BUILD_ARGUMENT), value
            else:
                yield from _build_arguments(value)
    elif isinstance(document, list):
        for item in document:
            yield from _build_arguments(item)


def _every(image: InspectedImage) -> Iterator[tuple[str, LayerEntry]]:
    for number, layer in enumerate(image.layers):
        described = _layer(image, number)
        for entry in layer.entries:
            yield described, entry


def _found(image: InspectedImage, path: str, placed: Placed, why: str) -> ContentFinding:
    return ContentFinding(path, _layer(image, placed.layer), why)


def _layer(image: InspectedImage, number: int) -> str:
    layer = image.layers[number]
    return f"layer {number + 1} of {len(image.layers)} ({layer.digest[:19]})"


def _details(entry: LayerEntry, name: TraitName) -> Iterator[str]:
    return (trait.detail for trait in entry.traits if trait.name == name)


_SEARCHES: dict[Absence, Callable[[InspectedImage], Iterator[ContentFinding]]] = {
    "shell": _shells,
    "package-manager": partial(_programs, tool="package-manager"),
    "pip": partial(_programs, tool="pip"),
    "setuid": _set_ids,
    "world-writable": _world_writables,
    "private-authority": _private_authorities,
    "secret": _secrets,
}
