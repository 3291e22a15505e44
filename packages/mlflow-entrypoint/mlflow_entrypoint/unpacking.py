"""Measure compressed bodies before MLflow unpacks them: it unpacks traces whole, of any size."""

from __future__ import annotations

import gzip
import io
import zlib


def is_larger(body: bytes, encoding: str, limit: int) -> bool:
    """Tell if `body` unpacks to more than `limit` bytes; of one that is broken, its sound part."""
    if encoding == "gzip":
        return _gzip_is_larger(body, limit)
    if encoding == "deflate":
        # As MLflow reads it: with zlib's head, else without.
        return any(_is_larger(body, bits, limit) for bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS))
    return False


def _gzip_is_larger(body: bytes, limit: int) -> bool:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
            return len(file.read(limit + 1)) > limit
    except (OSError, EOFError, zlib.error):
        return False  # MLflow refuses it


def _is_larger(body: bytes, bits: int, limit: int) -> bool:
    try:
        return len(zlib.decompressobj(bits).decompress(body, limit + 1)) > limit
    except zlib.error:
        return False
