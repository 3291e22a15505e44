"""Faults in a server's answers to a case."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from seatrial.wire.cases import Expected
from seatrial.wire.exchange import WireAnswer, WireExchange, converse, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seatrial.wire.cases import WireCase, WireTarget

QUIET = 4.0
"""Seconds without a byte after which a server is taken to wait for more, natively."""
REFUSED_WITHIN = 10.0
"""Seconds in which it refuses, or ends the connection, natively."""
ANSWERED_WITHIN = 30.0
"""Seconds in which it answers what is correct, natively: its first requests may take long."""
AT_ONCE = 16
"""Connections."""

_QUIET_BY_EXPECTATION = {
    Expected.ANSWERED: ANSWERED_WITHIN,
    Expected.LAST: ANSWERED_WITHIN,
    Expected.SAFE: QUIET,
    Expected.CLOSED: REFUSED_WITHIN,
    Expected.REFUSED: REFUSED_WITHIN,
}


@dataclass(frozen=True)
class WireFault:
    """A case that a server got wrong."""

    case: WireCase
    reason: str
    exchange: WireExchange
    desynchronised: bool
    """True if the server read part of a body as a request, or went on where no reading was safe."""

    def __str__(self) -> str:
        sent = shown(b"".join(self.case.parts), 300)
        return f"{self.case}: {self.reason}; sent {sent}, got {self.exchange}"


def try_out(target: WireTarget, cases: Sequence[WireCase], *, scale: float = 1) -> list[WireFault]:
    """Send cases to a server, each on a connection of its own.

    Returns:
        what it got wrong, in the order of the cases.
    """
    plain = converse(target.address, [target.last], quiet=ANSWERED_WITHIN, scale=scale)
    if not plain.answers or plain.answers[0].status != HTTPStatus.OK:
        raise LookupError(f"GET {target.health} is not answered with 200: {plain}")

    def fault(case: WireCase) -> WireFault | None:
        found = converse(
            target.address,
            [*case.parts[:-1], case.parts[-1] + target.last],
            methods=case.methods,
            quiet=_QUIET_BY_EXPECTATION[case.expected],
            scale=scale,
        )
        return judge(case, found, plain.answers[0])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [found for found in pool.map(fault, cases) if found]


def judge(case: WireCase, found: WireExchange, plain: WireAnswer) -> WireFault | None:
    """Compare the answers with those that the standard allows.

    Args:
        case: what was sent.
        found: what came back.
        plain: the right answer to the request that followed.
    """
    desynchronised = _desynchronised(case, found, plain)
    reason = desynchronised or _wrong(case, found)
    return WireFault(case, reason, found, bool(desynchronised)) if reason else None


def _desynchronised(case: WireCase, found: WireExchange, plain: WireAnswer) -> str:
    """Say why requests and answers no longer belong together; empty where they do."""
    own, later = found.answers[: len(case.statuses)], found.answers[len(case.statuses) :]
    if any(answer.status == HTTPStatus.NOT_FOUND for answer in own) and case.known and _hides(case):
        return "the request that was hidden in the body was answered"
    if len(later) > 1:
        return f"{len(found.answers)} answers to {len(case.statuses) + 1} requests"
    if found.rest:
        return "what came back is no answer"
    if later and not _same(later[0], plain):
        return "the plain request that followed got another answer"
    if later and case.expected in (Expected.REFUSED, Expected.CLOSED, Expected.LAST):
        return "the connection should have been closed, and the next request on it was answered"
    return ""


def _wrong(case: WireCase, found: WireExchange) -> str:
    answers, count = found.answers, len(case.statuses)
    if case.expected is Expected.SAFE:
        return ""
    if case.expected in (Expected.REFUSED, Expected.CLOSED):
        if case.expected is Expected.REFUSED and any(map(_is_success, answers)):
            return "it was answered as if nothing were wrong"
        return "" if found.closed else "the connection was left open"
    if len(answers) < count and not (answers and answers[-1].closes):
        return f"{len(answers)} answers to {count} correct requests"
    for answer, status in zip(answers, case.statuses, strict=False):
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or status not in (
            None,
            answer.status,
        ):
            return f"a correct request was answered with {answer.status}, not {status or 'below'}"
    if case.expected is Expected.LAST:
        return "" if found.closed else "the connection was left open"
    if len(answers) == count and not answers[-1].closes:
        return "the plain request that followed got no answer"
    return ""


def _hides(case: WireCase) -> bool:
    return any(b"/seatrial-hidden" in part for part in case.parts)


def _is_success(answer: WireAnswer) -> bool:
    return answer.status < HTTPStatus.BAD_REQUEST


def _same(answer: WireAnswer, other: WireAnswer) -> bool:
    return (answer.status, answer.body) == (other.status, other.body)
