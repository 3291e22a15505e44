"""Traits of a file's content, whatever its name: programs, authorities, secrets."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Literal

from seatrial.inspection import archives, authorities, programs, secrets
from seatrial.inspection.archives import UnpackingBudget

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
_JUDGED = 1024
"""Bytes of a head that show its encoding; even."""
_MOST, _FEW = 0.9, 0.1
_SHOWN = 200
"""Characters of a member's name."""


@dataclass(frozen=True, order=True)
class ContentTrait:
    """A fact that a file's content shows."""

    name: TraitName
    detail: str
    """Command line of an interpreter; fingerprint and name of an authority; Linux's name of a
    machine; else the evidence."""


def traits_of(
    path: str, content: IO[bytes], budget: UnpackingBudget | None = None
) -> tuple[ContentTrait, ...]:
    """Read a file once, in pieces, and collect its traits.

    Args:
        path: absolute, in the image: it says how suspicious some content is.
        content: read from its start to its end, never sought in.
        budget: for all archives of a layer; one of its own without.
    """
    found: set[ContentTrait] = set()
    head = b""
    literals: set[bytes] = set()
    leaks: set[str] = set()
    with archives.spooled() as archive:
        for piece, fresh in _pieces(content):
            if not head:
                head = piece[:_HEAD]
                budget = (budget or UnpackingBudget()) if archives.is_archive(head) else None
            literals |= programs.literals_in(piece, head)
            if b"\0" not in head:
                found |= {
                    ContentTrait("authority", str(issuer)) for issuer in authorities.found_in(piece)
                }
            # Libraries for cryptography carry the private keys that they test themselves with.
            if not programs.is_program(head):
                leaks.update(_secrets(piece, path, head))
            if budget:
                archive.write(piece[fresh:])
        if budget:
            packed = set(_packed_secrets(path, archive, budget))
            # An archive that is not compressed shows them as well, without the member's name.
            leaks = {
                why for why in leaks if not any(other.startswith(why) for other in packed)
            } | packed
    found |= {ContentTrait("secret", why) for why in leaks}
    found |= {ContentTrait(name, why) for name, why in programs.recognised(literals)}
    if line := programs.interpreter(head):
        found.add(ContentTrait("interpreter", line))
    if machine := programs.machine(head):
        found.add(ContentTrait("machine", machine))
    return tuple(sorted(found))


def _secrets(piece: bytes, path: str, head: bytes) -> Iterator[str]:
    if encoding := _wide_encoding(head):
        text = piece.decode(encoding, "replace").encode()
        return secrets.found_in_file(text, path, binary=False)
    return secrets.found_in_file(piece, path, binary=b"\0" in head)


def _wide_encoding(head: bytes) -> str | None:
    """Recognise UTF-16, by its mark or by every other byte, which is zero in Latin letters."""
    even, odd = (_share_of_zeros(head[start:_JUDGED:2]) for start in (0, 1))
    if head.startswith(codecs.BOM_UTF16_LE) or (odd > _MOST and even < _FEW):
        return "utf-16-le"
    if head.startswith(codecs.BOM_UTF16_BE) or (even > _MOST and odd < _FEW):
        return "utf-16-be"
    return None


def _share_of_zeros(sample: bytes) -> float:
    return sample.count(0) / len(sample) if sample else 0


def _packed_secrets(path: str, archive: IO[bytes], budget: UnpackingBudget) -> Iterator[str]:
    archive.seek(0)
    try:
        for name, content in archives.files_in(archive, budget):
            inner = f"{path}!{name}"
            shown = "".join(letter if letter.isprintable() else "?" for letter in name[:_SHOWN])
            where = f", in its member {shown}" if name else ", unpacked"
            head = b""
            for piece, _ in _pieces(content):
                head = head or piece[:_HEAD]
                if not programs.is_program(head):
                    yield from (f"{why}{where}" for why in _secrets(piece, inner, head))
    except archives.BeyondLimitsError:
        yield "an archive that is deeper, or holds more, than what is searched"


def _pieces(content: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Read pieces that overlap, with the number of bytes that the piece before had as well."""
    kept = b""
    while piece := content.read(_PIECE):
        yield kept + piece, len(kept)
        kept = piece[-_OVERLAP:]
