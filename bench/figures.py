"""Figures: ratios against a baseline of the same run, some with a bar to clear.

Seconds differ between machines, ratios hardly do. So every figure names its baseline, and a bar in
seconds is reported, never enforced.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Self

from bench import ROOT
from bench.machine import MeasuredMachine
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
    """Direction of a ratio."""

    TIMES_LESS = "times less"
    """Baseline divided by value."""
    SHARE = "share"
    """Value divided by baseline."""


@dataclass(frozen=True)
class Bar:
    """Target of a figure; exactly one field is set."""

    ratio: float | None = None
    """Lower bound of baseline divided by value."""
    value: float | None = None
    """Upper bound of the value, in the figure's unit."""
    share: float | None = None
    """Upper bound of value divided by baseline."""
    least_share: float | None = None
    """Lower bound of value divided by baseline."""

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
    """Measured value beside its baseline."""

    name: str
    unit: str
    value: float
    against: str
    """Name of the baseline."""
    baseline: float
    bar: Bar | None = None
    note: str = ""
    meaning: Meaning = Meaning.TIMES_LESS

    @property
    def ratio(self) -> float | None:
        """Ratio as `meaning` defines it; None where the divisor is 0."""
        divided, divisor = self.baseline, self.value
        if self.meaning is Meaning.SHARE:
            divided, divisor = divisor, divided
        return divided / divisor if divisor > 0 else None

    @property
    def met(self) -> bool | None:
        """Tell whether the figure clears its bar; None without a bar."""
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


def share_figure(
    name: str,
    unit: str,
    value: float,
    against: str,
    baseline: float,
    bar: Bar | None = None,
    note: str = "",
) -> Figure:
    """Make a figure whose ratio is value divided by baseline."""
    return Figure(name, unit, value, against, baseline, bar, note, Meaning.SHARE)


@dataclass(frozen=True)
class Sample:
    """Measurement of a single run."""

    label: str
    seconds: float
    """Wall-clock time."""
    times: Times | None = None
    disturbed: bool = False
    """True if another build ran on the same engine, or the machine was busy."""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SuiteReport:
    """Results of a run of a suite."""

    suite: str
    started: str
    """RFC 3339."""
    machine: MeasuredMachine
    options: dict[str, Any]
    figures: tuple[Figure, ...] = ()
    samples: tuple[Sample, ...] = ()
    """Runs behind the figures, in their order."""

    @property
    def stem(self) -> str:
        """Name of the report's files, without a suffix."""
        moment = datetime.fromisoformat(self.started).astimezone(UTC)
        return f"{self.suite}-{moment:%Y-%m-%dT%H%M%SZ}"

    def as_json(self) -> str:
        """Serialise the report, with ratios and verdicts for programs that only plot."""
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
        """Restore a report that `as_json` wrote.

        Raises:
            UserError: it is no report.
        """
        try:
            document = json.loads(text)
            return cls(
                suite=document["suite"],
                started=document["started"],
                machine=MeasuredMachine(**document["machine"]),
                options=document["options"],
                figures=tuple(map(_figure, document["figures"])),
                samples=tuple(map(_sample, document["samples"])),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"this is no report of `invoke bench`: {error!r}") from error

    def write(self, folder: Path = FOLDER) -> Path:
        """Write the report as JSON.

        Returns:
            The file's path.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.stem}.json"
        files.write_atomically(path, self.as_json() + "\n")
        return path


def median_seconds(samples: Sequence[Sample]) -> float:
    """Take the median of the seconds, which a single slow run does not move."""
    return median(sample.seconds for sample in samples)


def percentile_99(times: Sequence[float]) -> float:
    """Take the 99th percentile; infinite with fewer than two values."""
    return quantiles(times, n=100)[-1] if len(times) > 1 else float("inf")


def medians(rounds: Sequence[Any], *, summed: Collection[str] = ()) -> dict[str, float]:
    """Take the median of each field over some rounds, or the sum where every event counts.

    Args:
        rounds: instances of one dataclass, whose fields are numbers.
        summed: the fields whose sum is taken.
    """
    names = [field.name for field in fields(rounds[0])]
    columns = {name: [getattr(values, name) for values in rounds] for name in names}
    return {
        name: sum(column) if name in summed else median(column) for name, column in columns.items()
    }


def median_cpu(samples: Sequence[Sample]) -> Times:
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
