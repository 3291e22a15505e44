"""Times that servers make, as what they say beside their value.

Two servers never make the same ones. What stays is the form, the order of two of them, and whether
the time of a thing is the one that the server has given before.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Key = tuple[object, ...]
"""What a time is of, and its field."""
NOW = "<now>"
_DAY = 86_400
_UNITS = (1, 10**3, 10**6, 10**9)
"""What servers count a second in."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z?)")
_OWNERS = (
    *("assessment_id", "trace_id", "request_id", "model_id", "run_id", "experiment_id"),
    *("dataset_id", "webhook_id", "name", "version"),
)
"""Fields that say what the times beside them are of."""
_ORDERED = {
    "last_update_time": ("creation_time", "create_time", "created_time"),
    "last_updated_timestamp": ("creation_timestamp",),
    "last_updated_timestamp_ms": ("creation_timestamp_ms",),
    "end_time": ("start_time",),
}
"""Times, and those beside them that are never later."""


def is_present(number: float) -> bool:
    """Whether a number is a time of today, in any unit."""
    now = time.time()
    return any(unit * (now - _DAY) < number < unit * (now + _DAY) for unit in _UNITS)


def without_dates(text: str) -> str:
    """A text in which dates of today have become `<now>`."""
    return _DATE.sub(lambda match: match[0] if _seconds(match[0]) is None else NOW, text)


def labelled(value: Any, memory: dict[Key, float]) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Plain data in which each time of today has become a label.

    Args:
        value: an answer as the server has sent it.
        memory: the times that it has sent before; they are added to.
    """
    if isinstance(value, list):
        return [labelled(each, memory) for each in value]
    if not isinstance(value, dict):
        return value
    owner = tuple(value[name] for name in _OWNERS if isinstance(value.get(name), (str, int)))
    label = _labels(value, owner, memory)
    return {name: label(name) or labelled(each, memory) for name, each in value.items()}


def _labels(table: dict[str, Any], owner: Key, memory: dict[Key, float]) -> Callable[[str], str]:
    times = {name: _seconds(each) for name, each in table.items()}

    def label(name: str) -> str:
        found = times[name]
        if found is None:
            return ""
        if any((times.get(other) or found) > found for other in _ORDERED.get(name, ())):
            return f"{NOW}, earlier than it was made"
        form = f"{NOW}{'Z' if str(table[name]).endswith('Z') else ''}"
        if not owner:
            return form
        before = memory.get((*owner, name))
        memory[*owner, name] = found
        if before is None:
            return form
        return f"{form}, {'as before' if found == before else 'another'}"

    return label


def _seconds(value: object) -> float | None:
    """A time of today, in the unit that it has; None for anything else."""
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            moment = datetime.fromisoformat(value.removesuffix("Z")).replace(tzinfo=UTC).timestamp()
        except ValueError:  # no such day
            return None
        return moment if is_present(moment) else None
    if isinstance(value, str) and value.isdecimal() and len(value) < len("1" * 20):
        value = int(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and is_present(value):
        return value
    return None
