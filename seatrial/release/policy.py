"""The policy `qualification.toml`, and what speaks against some trials under it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seatrial import documents
from seatrial.reports.model import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from seatrial.reports.model import Image, Report

FILE = "qualification.toml"


class Allowance(BaseModel):
    """A promise that may be skipped, or not be tried, for some time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    promise: str = Field(min_length=1)
    platform: str | None = None
    """None for every platform."""
    reason: str = Field(min_length=1)
    until: date
    """The last day."""


class Policy(BaseModel):
    """What a release asks of trials."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    platforms: tuple[str, ...] = Field(min_length=1)
    native: tuple[str, ...] = ()
    """Platforms whose trial must not be emulated."""
    max_age_days: int = Field(default=7, gt=0)
    allowed: tuple[Allowance, ...] = ()


def load(path: Path) -> Policy:
    """Read the policy.

    Raises:
        UserError: it is missing, or it is none.
    """
    try:
        return Policy.model_validate(documents.toml(path, "policy"))
    except ValidationError as error:
        raise documents.first_fault(path, error) from None


def refusals(
    trials: Sequence[Report], policy: Policy, now: datetime, platforms: Sequence[str] = ()
) -> list[str]:
    """Everything that speaks against the trials' image, each as one line.

    Args:
        trials: all of them.
        policy: what is asked.
        now: to compare times with.
        platforms: those that are asked for; the policy's where none is named.
    """
    return list(dict.fromkeys(_refusals(trials, policy, now, platforms or policy.platforms)))


def _refusals(
    trials: Sequence[Report], policy: Policy, now: datetime, platforms: Sequence[str]
) -> Iterator[str]:
    images = [image for trial in trials for image in trial.images]
    same = {
        "digest": {image.digest for image in images},
        "contract": {image.contract_digest for image in images},
        "suite": {f"{trial.suite.version} {trial.suite.commit}" for trial in trials},
    }
    for name, values in same.items():
        if len(values) != 1:
            yield f"more than one {name}: {', '.join(sorted(values)) or 'none'}"
    for trial in trials:
        began = datetime.fromisoformat(trial.began)
        age = now - (began if began.tzinfo else began.replace(tzinfo=UTC))
        if age > timedelta(days=policy.max_age_days):
            yield f"a trial is {age.days} days old: at most {policy.max_age_days} are allowed"
        for test in trial.failed:
            yield f"failed: {test.id}"
    for platform in platforms:
        tried = [image for image in images if image.platform == platform]
        if not tried:
            yield f"{platform}: not tried"
        if platform in policy.native and not all(image.native for image in tried):
            yield f"{platform}: tried under emulation, and must be tried natively"
        yield from _of_platform(platform, tried, trials, policy, now.date())


def _of_platform(
    platform: str,
    tried: Sequence[Image],
    trials: Sequence[Report],
    policy: Policy,
    today: date,
) -> Iterator[str]:
    results = [result for image in tried for result in image.promises]
    kept = {result.name for result in results if result.verdict is Verdict.KEPT}
    for result in results:
        if result.verdict is Verdict.BROKEN:
            yield f"{platform}: {result.name}: broken"
        elif result.verdict is Verdict.PARTLY_TRIED and result.name not in kept:
            yield f"{platform}: {result.name}: partly tried: {'; '.join(result.reasons)}"
        elif result.name not in kept:
            told = f"{result.verdict.value}: {'; '.join(result.reasons)}"
            yield from _not_allowed(result.name, platform, told, policy, today)
    labels = {image.label for image in tried}
    for test in (test for trial in trials for test in trial.tests):
        if test.outcome is Outcome.SKIPPED and (test.image in labels or not test.image):
            for name in test.promises or (test.id,):
                yield from _not_allowed(name, platform, f"skipped: {test.reason}", policy, today)


def _not_allowed(
    promise: str, platform: str, told: str, policy: Policy, today: date
) -> Iterator[str]:
    fitting = [
        each
        for each in policy.allowed
        if each.promise == promise and each.platform in (None, platform)
    ]
    if not fitting:
        yield f"{platform}: {promise}: {told}"
    elif all(each.until < today for each in fitting):
        last = max(each.until for each in fitting)
        yield f"{platform}: {promise}: allowed until {last}, which is over"
