"""Layers that are made up for a test."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, NamedTuple

from seatrial.inspection import layer as layers

if TYPE_CHECKING:
    from seatrial.inspection.layer import Layer


class Member(NamedTuple):
    """A member of a made-up archive."""

    name: str
    content: bytes = b""
    mode: int = 0o644
    kind: bytes = tarfile.REGTYPE
    target: str = ""
    capability: str = ""


def archive(*members: Member) -> bytes:
    """A tar archive with these members, in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type, info.mode, info.linkname = member.kind, member.mode, member.target
            info.size = len(member.content)
            if member.capability:
                info.pax_headers = {"SCHILY.xattr.security.capability": member.capability}
            tar.addfile(info, io.BytesIO(member.content))
    return buffer.getvalue()


def folder(name: str, mode: int = 0o755) -> Member:
    """A folder."""
    return Member(name, mode=mode, kind=tarfile.DIRTYPE)


def link(name: str, target: str) -> Member:
    """A symbolic link."""
    return Member(name, mode=0o777, kind=tarfile.SYMTYPE, target=target)


def layer(*members: Member) -> Layer:
    """The layer that such an archive is read as."""
    return layers.read("sha256:0", io.BytesIO(archive(*members)))
