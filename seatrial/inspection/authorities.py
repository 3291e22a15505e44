"""Certificate authorities in an image, and which of them are public ones."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import warnings
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Self

import certifi
from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = re.compile(
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+)-----END"
)
_PUBLISHED = resources.files("seatrial.inspection").joinpath("public-authorities.txt")


@dataclass(frozen=True)
class Authority:
    """A certificate that may vouch for others."""

    fingerprint: str
    """SHA-256 of the certificate, in hexadecimal digits."""
    name: str
    """Subject of the certificate, on one line."""

    def __str__(self) -> str:
        return f"{self.fingerprint} {self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote."""
        fingerprint, _, name = text.partition(" ")
        return cls(fingerprint, name)


def found_in(content: bytes) -> Iterator[Authority]:
    """Find the authorities in PEM text; skip what can't be read as a certificate."""
    if b"CERTIFICATE-----" not in content:
        return
    for block in _BLOCK.finditer(content):
        try:
            # What OpenSSL's "trusted" form appends to the certificate is no part of it.
            encoded = _first_element(base64.b64decode(block[1]))
            certificate = _certificate(encoded)
            if _vouches(certificate):
                name = certificate.subject.rfc4514_string()
                yield Authority(hashlib.sha256(encoded).hexdigest(), name)
        except (ValueError, binascii.Error):
            continue


@cache
def public() -> frozenset[str]:
    """Collect fingerprints of the authorities that Mozilla's list holds or has held.

    Earlier editions count as well: an image may carry what newer ones dropped. This machine's own
    trust store does not: it may trust a private authority.
    """
    lines = _PUBLISHED.read_text(encoding="utf-8").splitlines()
    published = {Authority.parse(line).fingerprint for line in lines if not line.startswith("#")}
    newest = Path(certifi.where()).read_bytes()
    return frozenset(published | {authority.fingerprint for authority in found_in(newest)})


def _certificate(encoded: bytes) -> x509.Certificate:
    with warnings.catch_warnings():
        # Public authorities of the nineties have serial numbers that later rules forbid.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return x509.load_der_x509_certificate(encoded)


def _first_element(encoded: bytes) -> bytes:
    """Cut off what follows the first element of a DER encoding."""
    # Lengths up to 127 are one byte; above, the byte says how many bytes the length has.
    if len(encoded) < 2 or encoded[1] < 0x80:
        return encoded
    count = encoded[1] & 0x7F
    return encoded[: 2 + count + int.from_bytes(encoded[2 : 2 + count])]


def _vouches(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate is an authority's, or self-signed."""
    if certificate.issuer == certificate.subject:
        return True
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
