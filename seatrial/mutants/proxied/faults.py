"""Faults of a proxy: each changes one field of one endpoint, or one endpoint, in one way."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from seatrial.mutants.proxied.proxy import Exchange, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Change = Callable[[object], object]

    from seatrial.trial.endpoints import Endpoint, Router

_GONE = object()
"""What a field becomes that is left out."""


def _dropped(_: object) -> object:
    return _GONE


def _emptied(value: object) -> object:
    return type(value)()


def _lowered(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _truncated(value: object) -> object:
    return value[:-1] if isinstance(value, (str, list)) else value


def _shifted(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str) and value.lstrip("-").isdecimal():
        return str(int(value) + 1)
    return value


def _rounded(value: object) -> object:
    return float(round(value)) if isinstance(value, float) and math.isfinite(value) else value


def _reversed(value: object) -> object:
    return value[::-1] if isinstance(value, list) else value


def _doubled(value: object) -> object:
    return [*value, *value[-1:]] if isinstance(value, list) else value


CHANGES: dict[str, Change] = {
    "dropped": _dropped,
    "emptied": _emptied,
    "in lower case": _lowered,
    "truncated": _truncated,
    "one more": _shifted,
    "rounded": _rounded,
    "in reverse": _reversed,
    "with its last item twice": _doubled,
}
"""What becomes of a field's value; the same value where the change does not apply to it."""
CACHED, PRAISED, FIRST_PAGE = "answered from a cache", "200 for an error", "its first page again"
SENT, RECEIVED = "sent", "received"


@dataclass(frozen=True)
class ProxiedMutant:
    """One fault, as a report names it."""

    endpoint: Endpoint
    change: str
    direction: str = ""
    """`SENT` or `RECEIVED`; empty where the whole endpoint is changed."""
    field: str = ""
    """With dots between the levels."""

    @property
    def changes_answers_alone(self) -> bool:
        """Tell whether the server is asked what it would be asked without the fault."""
        return self.direction == RECEIVED or self.change in (CACHED, PRAISED)

    def __str__(self) -> str:
        what = f"{self.field} {self.direction} " if self.field else ""
        return f"{self.endpoint}: {what}{self.change}"


def mutants(endpoints: Iterable[Endpoint]) -> Iterator[ProxiedMutant]:
    """Make every fault that there is for some endpoints."""
    for endpoint in endpoints:
        yield ProxiedMutant(endpoint, CACHED)
        yield ProxiedMutant(endpoint, PRAISED)
        if "page_token" in endpoint.sent:
            yield ProxiedMutant(endpoint, FIRST_PAGE)
        for direction, fields in ((SENT, endpoint.sent), (RECEIVED, endpoint.received)):
            for field in sorted(fields):
                for change in CHANGES:
                    yield ProxiedMutant(endpoint, change, direction, field)


class ProxiedFault(Fault):
    """What the proxy does for one mutant."""

    def __init__(self, mutant: ProxiedMutant, router: Router) -> None:
        """Change nothing yet.

        Args:
            mutant: which fault it is.
            router: finds the endpoint of a request.
        """
        self.mutant = mutant
        self.applied = False
        """True if anything was changed so far."""
        self._router = router
        self._first: Any = None

    def changes(self, exchanges: Iterable[Exchange]) -> bool:
        """Tell whether anything would be different in exchanges that went without a fault."""
        for exchange in exchanges:
            self._try(exchange)
            if self.applied:
                return True
        return False

    def _try(self, exchange: Exchange) -> None:
        """Change a copy of one exchange, of what the fault is about: answers may be long."""
        names = self.mutant.field.split(".")
        if self.mutant.changes_answers_alone:
            if not self.mutant.field or _holds(exchange.answer, names):
                self.after(replace(exchange, answer=copy.deepcopy(exchange.answer)))
        else:
            sent = replace(exchange, query=[*exchange.query], body=copy.deepcopy(exchange.body))
            self.before(sent)

    def before(self, exchange: Exchange) -> None:
        """Change what the server is asked."""
        if not self._is_about(exchange):
            return
        if self.mutant.change == FIRST_PAGE:
            self._change_sent(exchange, "page_token", _dropped)
        elif self.mutant.direction == SENT:
            self._change_sent(exchange, self.mutant.field, CHANGES[self.mutant.change])

    def after(self, exchange: Exchange) -> None:
        """Change what the client is answered."""
        if not self._is_about(exchange):
            return
        if self.mutant.change == PRAISED and exchange.status >= 400:
            exchange.status, exchange.answer, self.applied = 200, {}, True
        elif self.mutant.change == CACHED and exchange.status < 400:
            if self._first is None:
                self._first = copy.deepcopy(exchange.answer)
            elif exchange.answer != self._first:
                exchange.answer, self.applied = copy.deepcopy(self._first), True
        elif self.mutant.direction == RECEIVED and exchange.status < 400:
            change = CHANGES[self.mutant.change]
            if _changed(exchange.answer, self.mutant.field.split("."), change):
                self.applied = True

    def _is_about(self, exchange: Exchange) -> bool:
        found = self._router.find(exchange.method, unquote(exchange.path))
        return bool(found and found[0] == self.mutant.endpoint)

    def _change_sent(self, exchange: Exchange, field: str, change: Change) -> None:
        names = field.split(".")
        if isinstance(exchange.body, str):  # a document in a string, as some clients send it
            exchange.body = json.loads(exchange.body)
        if exchange.body is not None and _changed(exchange.body, names, change):
            self.applied = True
        for number in range(len(exchange.query) - 1, -1, -1):
            name, value = exchange.query[number]
            if name != field:
                continue
            new = change(value)
            if new is _GONE:
                del exchange.query[number]
            else:
                exchange.query[number] = (name, str(new))
            self.applied = self.applied or new != value


def _holds(value: object, names: list[str]) -> bool:
    """Tell whether a field is anywhere in a document."""
    if not names:
        return True
    if isinstance(value, list):
        return any(_holds(item, names) for item in value)
    return isinstance(value, dict) and names[0] in value and _holds(value[names[0]], names[1:])


def _changed(value: object, names: list[str], change: Change) -> bool:
    """Change a field wherever it is in a document; says whether anything is different now."""
    if isinstance(value, list):
        # All of them, not only the first that changes.
        return sum(_changed(item, names, change) for item in value) > 0
    if not isinstance(value, dict) or names[0] not in value:
        return False
    name, *below = names
    if below:
        return _changed(value[name], below, change)
    new = change(value[name])
    if new is _GONE:
        del value[name]
        return True
    different = new != value[name]
    value[name] = new
    return bool(different)
