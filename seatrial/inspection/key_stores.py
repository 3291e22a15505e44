"""Private keys in binary files: PKCS#12, Java key stores, and DER."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PKCS12 = re.compile(rb"\x30[\x80-\x84].{0,4}\x02\x01\x03\x30", re.DOTALL)
_KEY_BAGS = tuple(bytes.fromhex(f"060b2a864886f70d010c0a01{number}") for number in ("01", "02"))
"""A key, and an encrypted one: a PKCS#12 file for trust alone holds neither."""
_JAVA = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")
_JAVA_KEY = 1
_MOST_ENTRIES = 1000
_DER = re.compile(
    # PKCS#8 of RSA, of elliptic curves and of Ed25519.
    rb"\x30(?:.|[\x81].|\x82..)\x02\x01\x00\x30.(?:\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"
    rb"|\x06\x07\x2a\x86\x48\xce\x3d\x02\x01|\x06\x03\x2b\x65\x70)",
    re.DOTALL,
)


def found_in(content: bytes) -> Iterator[str]:
    """Describe the private keys in a file, from its beginning."""
    if _PKCS12.match(content) and any(bag in content for bag in _KEY_BAGS):
        yield "a private key in a PKCS#12 file"
    if content.startswith(_JAVA) and _java_key(content):
        yield "a private key in a Java key store"
    if _DER.match(content):
        yield "a private key in DER"


def _java_key(content: bytes) -> bool:
    """Tell if an entry of a Java key store is a key: its certificates stand for trust alone."""
    try:
        _, _, count = struct.unpack_from(">III", content)
        at = 12
        for _ in range(min(count, _MOST_ENTRIES)):
            (tag, alias) = struct.unpack_from(">IH", content, at)
            if tag == _JAVA_KEY:
                return True
            at += 6 + alias + 8
            (length,) = struct.unpack_from(">H", content, at)
            at += 2 + length
            (length,) = struct.unpack_from(">I", content, at)
            at += 4 + length
    except struct.error:
        return False
    return False
