"""Size that a request unpacks to, before it is unpacked.

A few kilobytes can say a table of terabytes: Parquet's repeated values, a CSV file of one wide row
and many short ones, records that each name another column, a number for every cell of a frame, a
long text among short ones in an array of NumPy, which gives each the room of the longest.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_model_server import answers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mlflow_model_server.frames import Answer

_CELL = 8
"""Bytes: a number, or a reference."""
_COLUMN = 1000
"""Bytes that a column takes, however few cells it has."""
_TEXT, _NESTED = 64, 128
"""Bytes that a value takes which is an object of Python's."""
_CHARACTER = 4
"""Bytes of a character in an array of NumPy's."""
_MAGIC = b"PAR1"
_FOOTER = 16 << 20
"""Bytes of a Parquet file's metadata: those of more than 10 000 columns."""
_SHARED = {"PLAIN_DICTIONARY", "RLE_DICTIONARY", "DELTA_BYTE_ARRAY"}
"""Encodings that write text once which several values have."""


class UnpackingLimits(NamedTuple):
    """Limits of what a request may unpack to."""

    bytes: int


class _TooLargeError(Exception):
    """Refusal: the request unpacks to more than it may."""

    def __init__(self, size: float) -> None:
        super().__init__(size)
        self.size = size


def unpack(
    headers: Mapping[str, str], body: bytes, limits: UnpackingLimits
) -> tuple[Any, Answer | None]:
    """Check a request to /invocations.

    What can't be read is left to MLflow, which says so.

    Args:
        headers: of the request.
        body: likewise.
        limits: what it may unpack to.

    Returns:
        The body, as a dictionary where it is one in JSON; and the answer to a request that is
        refused.
    """
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        refusal = "the request's content-encoding isn't supported: send it without one"
        return body, answers.error(415, "INVALID_PARAMETER_VALUE", refusal)
    content_type = headers.get("content-type", "").partition(";")[0].strip()
    # The largest table has half of the body for its rows and half for its columns.
    harmless = len(body) ** 2 <= 2 * limits.bytes
    try:
        if content_type == "application/json":
            return _json(body, limits, harmless=harmless), None
        if content_type == "text/csv" and not harmless:
            _check_csv(body, limits)
        elif content_type == "application/vnd.apache.parquet":
            _check_parquet(body, limits)
    except _TooLargeError as error:
        refusal = (
            f"the request unpacks to {error.size:.0f} bytes or more, and {limits.bytes} are the"
            " limit: send it in parts"
        )
        return body, answers.error(413, "INVALID_PARAMETER_VALUE", refusal)
    return body, None


def _check(size: float, limits: UnpackingLimits) -> None:
    if size > limits.bytes:
        raise _TooLargeError(size)


def _table(rows: int, columns: int) -> int:
    return rows * columns * _CELL + columns * _COLUMN


def _json(body: bytes, limits: UnpackingLimits, *, harmless: bool) -> Any:  # noqa: ANN401 - JSON
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(data, dict):
        return body
    if not harmless:
        frame = data.get("dataframe_split")
        if isinstance(frame, dict):
            _check(_table(*_shape(frame.get("data"), frame)), limits)
        _check(_table(*_shape(data.get("dataframe_records"), {})), limits)
        for name in ("instances", "inputs", "params"):
            count, longest = _texts(data.get(name))
            _check(count * longest * _CHARACTER, limits)
    return data


def _shape(data: Any, frame: Mapping[str, Any]) -> tuple[int, int]:  # noqa: ANN401 - JSON
    """The rows and columns of a frame that is made of this."""
    rows, widest, names = _length(data), 0, set()
    if isinstance(data, dict):
        rows = max(map(_length, data.values()), default=0)
        names = set(data)
    elif isinstance(data, list):
        for row in data:
            if isinstance(row, dict):
                names.update(row)
            elif isinstance(row, list):
                widest = max(widest, len(row))
    rows = max(rows, _length(frame.get("index")))
    return rows, max(widest, len(names), _length(frame.get("columns")))


def _length(value: Any) -> int:  # noqa: ANN401 - JSON
    return len(value) if isinstance(value, list | dict | str) else 0


def _texts(data: Any) -> tuple[int, int]:  # noqa: ANN401 - JSON
    """How many values an array has that is made of this, and how long its longest text is."""
    count = longest = 0
    left = [data]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left.extend(value)
        elif isinstance(value, dict):
            left.extend(value.values())
        else:
            count += 1
            if isinstance(value, str) and len(value) > longest:
                longest = len(value)
    return count, longest


def _check_csv(body: bytes, limits: UnpackingLimits) -> None:
    lines = body.count(b"\n") + body.count(b"\r") + 1
    if _table(lines, body.count(b",") + 1) <= limits.bytes:
        return
    widest = max(line.count(b",") for line in body.splitlines()) + 1 if body else 1
    _check(_table(lines, widest), limits)


def _check_parquet(body: bytes, limits: UnpackingLimits) -> None:
    if body[-4:] != _MAGIC:
        return
    _check_footer(int.from_bytes(body[-8:-4], "little"), limits)
    from pyarrow import ArrowException, parquet

    try:
        metadata = parquet.read_metadata(io.BytesIO(body))
    except (ArrowException, OSError):
        return
    columns = [metadata.schema.column(number) for number in range(metadata.num_columns)]
    size = _table(metadata.num_rows, metadata.num_columns) or metadata.num_rows
    _check(size, limits)
    size, shared = len(columns) * _COLUMN, 0
    measured: set[str] = set()
    for chunk, column in _chunks(metadata, columns):
        values = max(chunk.num_values, 0)
        size += max(chunk.total_uncompressed_size, values * _bytes(column))
        _check(size, limits)
        if column.physical_type == "BYTE_ARRAY" and _SHARED & set(chunk.encodings):
            shared += values * chunk.total_uncompressed_size
            measured.add(column.path)
    if size + shared > limits.bytes:
        _check_texts(body, measured, size, limits)


def _check_footer(size: int, limits: UnpackingLimits) -> None:
    """Refuse metadata that would take more memory than a table."""
    if size > _FOOTER:
        raise _TooLargeError(max(size * 64, limits.bytes))


def _chunks(metadata: Any, columns: list[Any]) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401
    """The columns of each row group, as the metadata describes them, with their schemas."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place, column in enumerate(columns):
            yield group.column(place), column


def _bytes(column: Any) -> int:  # noqa: ANN401 - pyarrow's
    """What a value of a column takes at least."""
    size = _CELL
    if column.physical_type == "FIXED_LEN_BYTE_ARRAY":
        size = _TEXT + max(column.length, 0)
    elif column.physical_type == "BYTE_ARRAY" or column.logical_type.type == "DECIMAL":
        size = _TEXT
    return size + (_NESTED if "." in column.path else 0)


def _check_texts(body: bytes, paths: Iterable[str], size: int, limits: UnpackingLimits) -> None:
    """Read columns of text as dictionaries, and see how long they would be without."""
    import pyarrow
    from pyarrow import compute, parquet

    try:
        file = parquet.ParquetFile(io.BytesIO(body), read_dictionary=list(paths))
        for number in range(file.num_row_groups):
            for path in paths:
                for array in file.read_row_group(number, columns=[path]).column(0).chunks:
                    for texts in _dictionaries(array):
                        lengths = compute.binary_length(texts.dictionary)
                        size += compute.sum(compute.take(lengths, texts.indices)).as_py() or 0
                        _check(size, limits)
    except (pyarrow.ArrowException, OSError):
        # One encoding, DELTA_BYTE_ARRAY, can't be read like this.
        raise _TooLargeError(limits.bytes) from None


def _dictionaries(array: Any) -> Iterator[Any]:  # noqa: ANN401 - pyarrow's
    """The arrays of text in an array of any type, that were read as dictionaries."""
    from pyarrow import types

    if types.is_dictionary(array.type):
        yield array
    elif types.is_struct(array.type):
        for field in array.flatten():
            yield from _dictionaries(field)
    elif types.is_map(array.type):
        yield from _dictionaries(array.keys)
        yield from _dictionaries(array.items)
    elif types.is_nested(array.type):
        yield from _dictionaries(array.values)
