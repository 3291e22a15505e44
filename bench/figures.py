"""Figures: each a ratio against a baseline of the same run, some with a bar to clear.

Seconds of one machine say nothing about another, ratios mostly do. So every figure carries what it
was measured against, and a bar in seconds is reported, never enforced.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from statistics import median
from typing import TYPE_CHECKING, Any, Self

from bench import ROOT
from bench.machine import Machine
from bench.processor import Times
from seatrial import files
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

FOLDER = ROOT / ".seatrial" / "bench"

SECONDS = "s"
CPU_SECONDS = "CPU s"


class Meaning(StrEnum):
    """What a ratio says."""

    TIMES_LESS = "times less"
    """How many times less the value is than its baseline."""
    SHARE = "share"
    """The value as a multiple of its baseline."""


@dataclass(frozen=True)
class Bar:
    """What was asked for: one of these."""

    ratio: float | None = None
    """So many times less than the baseline, or better."""
    value: float | None = None
    """At most, in the figure's unit."""
    share: float | None = None
    """At most, as a multiple of the baseline."""
    least_share: float | None = None
    """At least, as a multiple of the baseline."""

    def __str__(self) -> str:
        if self.ratio is not None:
            return f"≥ {self.ratio:g}x less"
        if self.share is not None:
            return f"≤ {self.share:g}x"
        if self.least_share is not None:
            return f"≥ {self.least_share:g}x"
        return f"≤ {self.value:g}"


@dataclass(frozen=True)
class Figure:
    """One thing measured, and the same done otherwise."""

    name: str
    unit: str
    value: float
    against: str
    """What the baseline is."""
    baseline: float
    bar: Bar | None = None
    note: str = ""
    meaning: Meaning = Meaning.TIMES_LESS

    @property
    def ratio(self) -> float | None:
        """What `meaning` says; None where the divisor is too small to tell."""
        divided, divisor = self.baseline, self.value
        if self.meaning is Meaning.SHARE:
            divided, divisor = divisor, divided
        return divided / divisor if divisor > 0 else None

    @property
    def met(self) -> bool | None:
        """Whether it clears its bar; None without one."""
        if self.bar is None:
            return None
        if self.bar.ratio is not None:
            return self.ratio is not None and self.ratio >= self.bar.ratio
        if self.bar.share is not None:
            return self.value <= self.bar.share * self.baseline
        if self.bar.least_share is not None:
            return self.value >= self.bar.least_share * self.baseline
        assert self.bar.value is not None
        return self.value <= self.bar.value


@dataclass(frozen=True)
class Sample:
    """One run of something."""

    label: str
    seconds: float
    """On the wall."""
    times: Times | None = None
    disturbed: bool = False
    """Whether somebody else's build was at work on the same engine, or the machine was busy."""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """One run of a suite."""

    suite: str
    started: str
    """RFC 3339."""
    machine: Machine
    options: dict[str, Any]
    figures: tuple[Figure, ...] = ()
    samples: tuple[Sample, ...] = ()
    """What the figures were made from, in the order in which it was run."""

    @property
    def stem(self) -> str:
        """What its files are called, without the ending."""
        moment = datetime.fromisoformat(self.started).astimezone(UTC)
        return f"{self.suite}-{moment:%Y-%m-%dT%H%M%SZ}"

    def as_json(self) -> str:
        """Write it, with what follows from the values, for readers that only plot."""
        document = asdict(self)
        document["figures"] = [
            {**asdict(figure), "ratio": figure.ratio, "met": figure.met} for figure in self.figures
        ]
        document["samples"] = [
            {**asdict(sample), "times": sample.times._asdict() if sample.times else None}
            for sample in self.samples
        ]
        return json.dumps(document, indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `as_json` wrote.

        Raises:
            UserError: it is no report.
        """
        try:
            document = json.loads(text)
            return cls(
                suite=document["suite"],
                started=document["started"],
                machine=Machine(**document["machine"]),
                options=document["options"],
                figures=tuple(_figure(each) for each in document["figures"]),
                samples=tuple(_sample(each) for each in document["samples"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"this is no report of `invoke bench`: {error!r}") from error

    def write(self, folder: Path = FOLDER) -> Path:
        """Write it as JSON.

        Returns:
            The file's path.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.stem}.json"
        files.write_atomically(path, self.as_json() + "\n")
        return path


def middle(samples: Sequence[Sample]) -> float:
    """Take the median of the seconds: one slow run of several says nothing."""
    return median(sample.seconds for sample in samples)


def medians(rounds: Sequence[Any], *, summed: Collection[str] = ()) -> dict[str, float]:
    """Take the median of each field over some rounds, or the sum: of faults every one counts.

    Args:
        rounds: instances of one dataclass, whose fields are numbers.
        summed: the fields whose sum is taken.
    """
    columns = {
        field.name: [getattr(each, field.name) for each in rounds] for field in fields(rounds[0])
    }
    return {
        name: sum(column) if name in summed else median(column) for name, column in columns.items()
    }


def middle_cpu(samples: Sequence[Sample]) -> Times:
    """Take the median of the CPU times, counter by counter."""
    measured = [sample.times for sample in samples if sample.times]
    return Times(*(median(column) for column in zip(*measured, strict=True)))


def _figure(document: dict[str, Any]) -> Figure:
    stored = {key: value for key, value in document.items() if key not in {"ratio", "met"}}
    bar, meaning = stored.pop("bar"), Meaning(stored.pop("meaning", Meaning.TIMES_LESS))
    return Figure(**stored, bar=Bar(**bar) if bar else None, meaning=meaning)


def _sample(document: dict[str, Any]) -> Sample:
    stored = dict(document)
    times = stored.pop("times")
    return Sample(**stored, times=Times(**times) if times else None)
