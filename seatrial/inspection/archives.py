"""Files inside archives, unpacked in memory and within limits.

An archive of an image is hostile: it may claim any size, hold itself, or unpack to terabytes.
Nothing is written under a name that it gives, links are not followed, and what is unpacked of all
archives of a layer is bounded.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator

_GIB = 1024**3
_DEEPEST = 4
"""Archives in archives: a wheel in a tar archive that is compressed is three."""
_BLOCK = 512
_CHUNK = 1024 * 1024
_IN_MEMORY = 32 * _CHUNK
_MOST_MEMORY = 256 * _CHUNK
_LARGEST_DIRECTORY = 64 * _CHUNK
"""Bytes of a zip archive's list of members; each of them costs ten times that in memory."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Methods that `zipfile` unpacks piece by piece, whatever a piece unpacks to."""
_WITHOUT_CONTENT = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE)
_TAR_MAGIC = slice(257, 262)
_SHEBANG = b"#!"
_ZIP = b"PK\x03\x04"
_END = struct.Struct("<4s4H2LH")
_END_MAGIC = b"PK\x05\x06"
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_MAGIC = b"PK\x06\x06"
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    EOFError,
    OSError,
    RuntimeError,  # a member with a password
    NotImplementedError,
    ValueError,
    struct.error,
)
"""Errors that the libraries raise for archives that are damaged, cut off or locked."""


class BeyondLimitsError(Exception):
    """More than what is unpacked of a layer's archives."""


@dataclass
class UnpackingBudget:
    """Remainder of what may be unpacked of the archives of one layer."""

    size: int = 4 * _GIB
    members: int = 200_000

    def spend(self, size: int) -> None:
        """Count bytes that were unpacked, or copied to be unpacked."""
        self.size -= size
        if self.size < 0:
            raise BeyondLimitsError

    def open_member(self) -> None:
        """Count a member."""
        self.members -= 1
        if self.members < 0:
            raise BeyondLimitsError


def is_archive(head: bytes) -> bool:
    """Tell whether a file that begins so is an archive, or is compressed.

    Args:
        head: some kilobytes: a zip archive may begin with the line that runs it.
    """
    return _is_zip(head) or _is_tar(head) or _compression(head) is not None


@contextmanager
def spooled() -> Iterator[IO[bytes]]:
    """Give a temporary file that can be sought in, in memory while it is small."""
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        yield cast("IO[bytes]", file)


def files_in(
    archive: IO[bytes], budget: UnpackingBudget, depth: int = 1
) -> Iterator[tuple[str, IO[bytes]]]:
    """Unpack an archive, and those in it: names and contents of the files that are none.

    What is damaged or locked is left out. A file has to be read before the next one is asked for.

    Args:
        archive: from its beginning; a zip archive is sought in.
        budget: for all archives of a layer.
        depth: of this archive.

    Raises:
        BeyondLimitsError: the archive is deeper, or holds more, than what is unpacked.
    """
    if depth > _DEEPEST:
        raise BeyondLimitsError
    try:
        for name, content in _members(archive, budget):
            counted = _Counted(content, budget)
            buffered = io.BufferedReader(counted, _CHUNK)
            if not is_archive(buffered.peek(_BLOCK)):
                yield name, buffered
                continue
            with spooled() as copy:
                shutil.copyfileobj(buffered, copy, _CHUNK)
                copy.seek(0)
                for inner, file in files_in(copy, budget, depth + 1):
                    yield f"{name}!{inner}" if name else inner, file
    except _BROKEN:
        return


class _Counted(io.RawIOBase):
    """A stream whose bytes are counted as they are read; it ends where it is damaged."""

    def __init__(self, content: IO[bytes], budget: UnpackingBudget) -> None:
        self._content = content
        self._budget = budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._content.read(min(len(buffer), _CHUNK))
        except _BROKEN:
            data = b""
        self._budget.spend(len(data))
        buffer[: len(data)] = data
        return len(data)


def _members(archive: IO[bytes], budget: UnpackingBudget) -> Iterator[tuple[str, IO[bytes]]]:
    head = archive.read(8 * 1024)
    archive.seek(0)
    if _is_zip(head):
        yield from _zip_members(archive, budget)
    elif _is_tar(head):
        yield from _tar_members(archive, budget)
    elif compressed := _compression(head):
        budget.open_member()
        yield "", _decompressed(archive, compressed)


def _is_zip(head: bytes) -> bool:
    return head.startswith(_ZIP) or (head.startswith(_SHEBANG) and _ZIP in head)


def _is_tar(head: bytes) -> bool:
    return head[_TAR_MAGIC] == b"ustar"


def _compression(head: bytes) -> str | None:
    magics = {
        b"\x1f\x8b\x08": "gzip",
        b"BZh": "bzip2",
        b"\xfd7zXZ\0": "xz",
        b"\x28\xb5\x2f\xfd": "zstd",
        # Objects of git, and what joblib writes.
        b"\x78\x01": "zlib",
        b"\x78\x9c": "zlib",
    }
    return next((name for magic, name in magics.items() if head.startswith(magic)), None)


def _decompressed(file: IO[bytes], compression: str) -> IO[bytes]:
    match compression:
        case "gzip":
            return cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb"))
        case "bzip2":
            return cast("IO[bytes]", bz2.BZ2File(file))
        case "xz":
            return cast("IO[bytes]", _Xz(file))
        case "zlib":
            return cast("IO[bytes]", _Zlib(file))
        case _:
            reader = zstandard.ZstdDecompressor(max_window_size=_MOST_MEMORY)
            return cast("IO[bytes]", reader.stream_reader(file, read_across_frames=True))


class _Xz:
    """A stream of xz within a limit of memory, which `lzma.open` doesn't have."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decompressor = lzma.LZMADecompressor(memlimit=_MOST_MEMORY)

    def read(self, size: int) -> bytes:
        """Read some bytes; none at the end."""
        while not self._decompressor.eof:
            more = self._file.read(_CHUNK) if self._decompressor.needs_input else b""
            if self._decompressor.needs_input and not more:
                raise EOFError
            if data := self._decompressor.decompress(more, size):
                return data
        return b""


class _Zlib:
    """A stream of zlib, unpacked piece by piece."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decompressor = zlib.decompressobj()

    def read(self, size: int) -> bytes:
        """Read some bytes; none at the end."""
        while not self._decompressor.eof:
            packed = self._decompressor.unconsumed_tail or self._file.read(_CHUNK)
            data = self._decompressor.decompress(packed, size)
            if data or not packed:
                return data
        return b""


def _tar_members(archive: IO[bytes], budget: UnpackingBudget) -> Iterator[tuple[str, IO[bytes]]]:
    """Read members one after the other, without extensions of the format.

    `tarfile` would hold an extension's header in memory, whatever size it claims.
    """
    while len(block := archive.read(_BLOCK)) == _BLOCK and block.strip(b"\0"):
        budget.open_member()
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        start = archive.tell()
        if member.isreg():
            yield member.name, cast("IO[bytes]", _Part(archive, member.size))
        size = 0 if member.type in _WITHOUT_CONTENT else max(0, member.size)
        archive.seek(start + -(-size // _BLOCK) * _BLOCK)


class _Part:
    """The next bytes of a file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int) -> bytes:
        """Read some bytes; none at the end."""
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data


def _zip_members(archive: IO[bytes], budget: UnpackingBudget) -> Iterator[tuple[str, IO[bytes]]]:
    if _directory_size(archive) > _LARGEST_DIRECTORY:
        raise BeyondLimitsError
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            budget.open_member()
            if member.is_dir() or member.flag_bits & 1 or member.compress_type not in _METHODS:
                continue
            try:
                with zipped.open(member) as content:
                    yield member.filename, content
            except _BROKEN:
                continue


def _directory_size(archive: IO[bytes]) -> int:
    """Read how large the list of members is, before `zipfile` holds all of it in memory."""
    length = archive.seek(0, io.SEEK_END)
    archive.seek(max(0, length - 65536 - _END.size - _END64.size - 20))
    tail = archive.read()
    at = tail.rfind(_END_MAGIC)
    if at < 0 or len(tail) - at < _END.size:
        return 0
    size = _END.unpack_from(tail, at)[5]
    at64 = tail.rfind(_END64_MAGIC, 0, at)
    if at64 >= 0 and at - at64 >= _END64.size:
        size = max(size, _END64.unpack_from(tail, at64)[8])
    return cast("int", size)
