"""Traits of a file's content, whatever its name: programs, authorities, secrets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Literal

from seatrial.inspection import authorities, programs, secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

TraitName = Literal[
    "shell",
    "package-manager",
    "pip",
    "interpreter",
    "machine",
    "capability",
    "authority",
    "secret",
]

_PIECE = 16 * 1024 * 1024
_OVERLAP = 64 * 1024
"""Bytes that two pieces share: more than the longest pattern has."""
_HEAD = 8 * 1024


@dataclass(frozen=True, order=True)
class Trait:
    """A fact that a file's content shows."""

    name: TraitName
    detail: str
    """Command line of an interpreter; fingerprint and name of an authority; Linux's name of a
    machine; else the evidence."""


def traits_of(path: str, content: IO[bytes]) -> tuple[Trait, ...]:
    """Read a file once, in pieces, and collect its traits.

    Args:
        path: absolute, in the image: it says how suspicious some content is.
        content: read from its start to its end, never sought in.
    """
    found: set[Trait] = set()
    head = b""
    literals: set[bytes] = set()
    for piece in _pieces(content):
        head = head or piece[:_HEAD]
        literals |= programs.literals_in(piece, head)
        binary = b"\0" in head
        if not binary:
            found |= {Trait("authority", str(issuer)) for issuer in authorities.found_in(piece)}
        # Libraries for cryptography carry the private keys that they test themselves with.
        if not programs.is_program(head):
            secret = secrets.found_in_file(piece, path, binary=binary)
            found |= {Trait("secret", why) for why in secret}
    found |= {Trait(name, why) for name, why in programs.recognised(literals)}
    if line := programs.interpreter(head):
        found.add(Trait("interpreter", line))
    if machine := programs.machine(head):
        found.add(Trait("machine", machine))
    return tuple(sorted(found))


def _pieces(content: IO[bytes]) -> Iterator[bytes]:
    kept = b""
    while piece := content.read(_PIECE):
        yield kept + piece
        kept = piece[-_OVERLAP:]
