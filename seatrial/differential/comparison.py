"""Answers as plain data, without what differs from server to server, and where two of them differ.

Ids become the labels of what was made, names lose the sequence's prefix, and times become `<now>`
unless the client has sent them. Lists are compared in their order, but for those that have none.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from mlflow.entities import Span, Trace
from mlflow.entities._mlflow_object import _MlflowObject

from seatrial.differential.server_times import NOW, is_present, labelled, without_dates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.exceptions import MlflowException

    from seatrial.differential.server_times import Key
    from seatrial.differential.steps import World

WITHOUT_ORDER = frozenset(
    {"aliases", "assessments", "inputs", "latest_versions", "metrics", "params", "tags"}
)
"""Fields whose lists come as the database gives them: no rule of MLflow's orders them."""
_SHORT_IDS = frozenset({"experiment_id", "experiment_ids", "mlflow.experimentId", "returned"})
"""Fields that hold ids of a few digits, which may be any text elsewhere."""
_ADDRESSES = re.compile(r"uri|location|source|path", re.IGNORECASE)
HTTP = "http"
"""Where the server's own answers stand, beside what the client has made of them."""
_PAGE_TOKENS = frozenset({"next_page_token", "page_token"})
_MADE_UP = re.compile(r"[a-z]+-[a-z]+-\d{1,3}")
"""How MLflow names a run that was given no name."""
_REQUEST = re.compile(r"(API request to )(endpoint )?\S+")
_SERVER = re.compile(r"host='[^']*', port=\d+")
_UNCOMPARABLE = re.compile(r"\((sqlite3|psycopg2?|pymysql|builtins)\.")
"""A database's own words in an error."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """Where two answers differ."""

    path: str
    """The field, such as `info.status`; empty where the answers differ as a whole."""
    expected: object
    """What the reference answered there."""
    actual: object
    """What the server under test answered there."""

    def __str__(self) -> str:
        """The difference in two lines."""
        place = f" in {self.path}" if self.path else ""
        return (
            f"MLflow answered{place}: {brief(self.expected)}\n"
            f"the server answered{place}: {brief(self.actual)}"
        )


def brief(value: object, most: int = 600) -> str:
    """A value for people to read."""
    text = value if isinstance(value, str) and value.startswith("<") else repr(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def plain(value: object) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Turn what a client returns into numbers, texts, lists and tables."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Trace):
        return {"info": plain(value.info), "spans": plain(value.data.spans)}
    if isinstance(value, Span):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (Sequence, set)):
        return [plain(each) for each in value]
    if dataclasses.is_dataclass(value) or isinstance(value, _MlflowObject):
        return {name: plain(each) for name, each in _fields(value)}
    raise TypeError(f"{type(value).__name__} can't be compared: comparison.plain does not know it")


def _fields(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, _MlflowObject):
        yield from value
    if dataclasses.is_dataclass(value):
        for each in dataclasses.fields(value):
            yield each.name, getattr(value, each.name)


def refusal(error: MlflowException) -> dict[str, Any]:
    """An error that a client has raised, as data: its code, and what it says."""
    message = _SERVER.sub("", _REQUEST.sub(r"\1<server>", str(error.message)))
    if _UNCOMPARABLE.search(message):
        message = "<of the database>"
    return {"refused": error.error_code, "message": message}


class Normaliser:
    """Takes what is one server's own out of its answers."""

    def __init__(self, world: World, address: str) -> None:
        """Read what the sequence has made there.

        Args:
            world: of the sequence on that server.
            address: of the server.
        """
        self._labels = {value: f"<{label}>" for label, value in world.ids.items()}
        long = {
            spelled: label
            for value, label in self._labels.items()
            if not value.isdecimal()
            for spelled in _spellings(value)
        }
        long |= {world.prefix: "", address: "<server>"}
        self._short = {value for value in self._labels if value.isdecimal()}
        self._long = sorted(long.items(), key=lambda item: -len(item[0]))
        self._in_text = (
            re.compile(rf"(?<![\w.-])({'|'.join(self._short)})(?![\w.-])") if self._short else None
        )
        self._times = world.times

    def __call__(self, value: Any, field: str = "") -> Any:  # noqa: ANN401
        """An answer without what is the server's own.

        Args:
            value: the answer, as plain data.
            field: the name of the field that it stands in.
        """
        if isinstance(value, dict):
            return {self._text(key, ""): self._field(each, key) for key, each in value.items()}
        if isinstance(value, list):
            found = [self(each, field) for each in value]
            return sorted(found, key=canonical) if field in WITHOUT_ORDER else found
        if isinstance(value, str):
            return self._text(value, field)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return NOW if is_present(value) else value
        return value

    def _field(self, value: Any, name: str) -> Any:  # noqa: ANN401
        if name == HTTP:
            return [self.http(each, self._times) for each in value]
        return self(value, name)

    def http(self, answer: dict[str, Any], times: dict[Key, float]) -> Any:  # noqa: ANN401
        """A server's own answer without what is the server's own.

        Args:
            answer: its status and body.
            times: those that the server has sent before; they are added to.
        """
        return self(labelled(answer, times))

    def _text(self, text: str, field: str) -> str:
        if text in self._short and field in _SHORT_IDS:
            return self._labels[text]
        if text.isdecimal() and len(text) < 20 and is_present(int(text)):
            return NOW
        if field in _PAGE_TOKENS:
            text = _decoded(text)
        if field == "message" and _UNCOMPARABLE.search(text):
            return "<of the database>"
        for value, label in self._long:
            text = text.replace(value, label)
        if self._in_text and (field == "message" or _ADDRESSES.search(field)):
            text = self._in_text.sub(lambda match: self._labels[match[1]], text)
        if field in ("run_name", "mlflow.runName", "value") and _MADE_UP.fullmatch(text):
            return "<made up>"
        return without_dates(text)


def _decoded(token: str) -> str:
    """What a page's token says, where it is MLflow's: it may hold ids and names."""
    try:
        return base64.b64decode(token, validate=True).decode()
    except ValueError:
        return token


def _spellings(identity: str) -> Iterator[str]:
    """An id, and how OpenTelemetry writes that of a trace: without a prefix, or in base64."""
    yield identity
    digits = identity.removeprefix("tr-")
    if digits != identity:
        yield digits
        yield base64.b64encode(bytes.fromhex(digits)).decode()


def canonical(value: object) -> str:
    """Plain data as a text by which it can be sorted."""
    return json.dumps(value, sort_keys=True, default=str)


def difference(expected: object, actual: object, path: str = "") -> Difference | None:
    """Find the first place in which two answers differ; None where they are the same."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in [*expected, *(key for key in actual if key not in expected)]:
            if key not in actual or key not in expected:
                return Difference(
                    _within(path, key), expected.get(key, "<nothing>"), actual.get(key, "<nothing>")
                )
            if found := difference(expected[key], actual[key], _within(path, key)):
                return found
        return None
    if isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return Difference(path, expected, actual)
        for number, (one, other) in enumerate(zip(expected, actual, strict=True)):
            if found := difference(one, other, f"{path}[{number}]"):
                return found
        return None
    same = expected == actual and isinstance(expected, bool) == isinstance(actual, bool)
    return None if same else Difference(path, expected, actual)


def _within(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
