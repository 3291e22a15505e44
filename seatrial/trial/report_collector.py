"""Collects what the tests of a run have shown, for the report that `--report` asks for."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.errors import ImageNotFound

from seatrial import __version__, reports
from seatrial.build import revision
from seatrial.contract import Need, promises_of
from seatrial.errors import UserError, plain
from seatrial.project import builtin, current
from seatrial.reports.model import (
    Image,
    Machine,
    Outcome,
    PromiseResult,
    Report,
    Section,
    Service,
    Suite,
    Test,
    Verdict,
)
from seatrial.reports.writing import JUNIT
from seatrial.trial import pytest_options, service_images
from seatrial.trial.parametrize import PROMISE_PROPERTY, can_try
from seatrial.trial.reporting import AGAIN, INSTALLED_PROPERTY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pytest

    from seatrial.contract import Contract, Promise
    from seatrial.trial.options import TrialOptions
    from seatrial.trial.run import Run
    from seatrial.trial.sources import ImageSource

_VERSION_LABEL = "org.opencontainers.image.version"


@dataclass
class _Phases:
    """A test as its phases tell of it, one after the other."""

    seconds: float = 0.0
    outcome: Outcome = Outcome.PASSED
    reason: str = ""
    failure: list[str] = field(default_factory=list)
    sections: dict[str, str] = field(default_factory=dict)
    properties: list[tuple[str, object]] = field(default_factory=list)

    def add(self, report: pytest.TestReport) -> None:
        """Take over what one phase has shown."""
        self.seconds += report.duration
        self.properties = report.user_properties or self.properties
        self.sections.update({plain(name): text for name, text in report.sections})
        if report.failed:
            self.outcome = Outcome.FAILED
            self.failure.append(report.longreprtext)
        elif report.skipped and self.outcome is not Outcome.FAILED:
            self.outcome = Outcome.SKIPPED
            self.reason = _reason(report)


class ReportCollector:
    """Listens to the tests of all workers, in the process that a person has started."""

    def __init__(self, config: pytest.Config) -> None:
        self._began = time.time()
        self._phases: dict[str, _Phases] = {}
        # Pytest writes the file of JUnit itself; where a person has named one, it is there.
        if not config.option.xmlpath:
            config.option.xmlpath = str(Path(pytest_options.report(config)).resolve() / JUNIT)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a phase of a test."""
        self._phases.setdefault(_plain_id(report.nodeid), _Phases()).add(report)

    def write(self, run: Run, limits: Sequence[str], left_out: Iterable[str]) -> None:
        """Write the report, where the run has come to its images.

        Raises:
            UserError: its folder can't be written to.
        """
        trial = run.trial
        if trial.has_images and trial.options.report:
            reports.write(self._report(run, limits, left_out), trial.options.report)

    def _report(self, run: Run, limits: Sequence[str], left_out: Iterable[str]) -> Report:
        trial, options = run.trial, run.trial.options
        tests = tuple(_test(name, phases) for name, phases in self._phases.items())
        source = revision.of(builtin())
        return Report(
            began=datetime.fromtimestamp(self._began, UTC).isoformat(timespec="seconds"),
            seconds=round(time.time() - self._began, 3),
            suite=Suite(version=__version__, commit=source.commit),
            machine=_machine(trial.client.version(), trial.client.info()),
            stack=options.stack,
            effort=options.effort,
            seed=trial.seed,
            limits=tuple(limits),
            images=tuple(
                Image(
                    label=source.label,
                    name=source.name,
                    reference=source.reference,
                    digest=trial.image_id(source),
                    platform=source.platform,
                    native=source.native,
                    contract=current().shown(source.contract_path),
                    contract_digest=contract_digest(source.contract),
                    installed=self._installed(source.label),
                    promises=results(source, tests, options, limits),
                )
                for source in trial.sources
            ),
            services=_services(run),
            tests=tests,
            left_out=tuple(sorted(set(left_out))),
        )

    def _installed(self, label: str) -> str:
        for phases in self._phases.values():
            for name, value in phases.properties:
                image, _, found = str(value).partition(": ")
                if name == INSTALLED_PROPERTY and image == label:
                    return found
        return ""


def contract_digest(contract: Contract) -> str:
    """The digest of a contract's values, whatever files they are spread over."""
    return "sha256:" + hashlib.sha256(contract.model_dump_json().encode()).hexdigest()


def results(
    source: ImageSource, tests: Iterable[Test], options: TrialOptions, limits: Sequence[str]
) -> tuple[PromiseResult, ...]:
    """What the tests say about each promise of an image."""
    by_promise: Mapping[str, list[Test]] = defaultdict(list)
    for test in tests:
        for name in test.promises if test.image == source.label else ():
            by_promise[name].append(test)
    return tuple(
        _result(promise, by_promise.get(str(promise), []), source, options, limits)
        for promise in promises_of(source.contract)
    )


def _result(
    promise: Promise,
    tests: Sequence[Test],
    source: ImageSource,
    options: TrialOptions,
    limits: Sequence[str],
) -> PromiseResult:
    outcomes = {test.outcome for test in tests}
    reasons = [test.reason for test in tests if test.reason]
    if Outcome.FAILED in outcomes:
        verdict = Verdict.BROKEN
    elif _is_limited(promise, options, limits) and outcomes:
        verdict = Verdict.PARTLY_TRIED
        reasons.append(f"limited by {', '.join(limits)}")
    elif Outcome.PASSED in outcomes:
        verdict = Verdict.KEPT
    elif outcomes:
        verdict = Verdict.SKIPPED
    else:
        verdict = Verdict.NOT_TRIED
        reasons.append(_why_not(promise, source, options, limits))
    return PromiseResult(
        name=str(promise),
        verdict=verdict,
        tests=tuple(test.id for test in tests),
        seconds=round(sum(test.seconds for test in tests), 3),
        reasons=tuple(dict.fromkeys(reasons)),
    )


def _is_limited(promise: Promise, options: TrialOptions, limits: Sequence[str]) -> bool:
    """Whether tests of the promise may be missing; `--promise` runs all of those that it means."""
    meant = {f"--promise {selector}" for selector in options.promises if selector.covers(promise)}
    if meant:
        return any(not limit.startswith("--promise ") for limit in limits)
    return bool(limits)


def _why_not(
    promise: Promise, source: ImageSource, options: TrialOptions, limits: Sequence[str]
) -> str:
    if not can_try(promise, options):
        return f"not tried with the stack {options.stack}"
    if not source.native and Need.NATIVE in promise.needs:
        return "not tried under emulation"
    return f"limited by {', '.join(limits)}" if limits else "no test of it ran"


def _test(name: str, phases: _Phases) -> Test:
    pairs = [
        str(value).partition(": ") for key, value in phases.properties if key == PROMISE_PROPERTY
    ]
    return Test(
        id=name,
        image=pairs[0][0] if pairs else "",
        promises=tuple(promise for _, _, promise in pairs),
        outcome=phases.outcome,
        seconds=round(phases.seconds, 3),
        reason=phases.reason,
        failure="\n\n".join(phases.failure),
        sections=tuple(
            Section(title=title, text=text)
            for title, text in phases.sections.items()
            if phases.outcome is Outcome.FAILED and title != AGAIN
        ),
        again=phases.sections.get(AGAIN, ""),
    )


def _plain_id(nodeid: str) -> str:
    # xdist adds the test's group to its name; pytest does not know it by that.
    name = nodeid.rpartition("]@")
    return f"{name[0]}]" if name[1] else nodeid


def _reason(report: pytest.TestReport) -> str:
    # Pytest gives the file, the line and the reason of a skip.
    where = report.longrepr
    text = str(where[2]) if isinstance(where, tuple) else report.longreprtext
    return text.removeprefix("Skipped: ")


def _machine(version: Mapping[str, Any], info: Mapping[str, Any]) -> Machine:
    return Machine(
        engine=version["Version"],
        kernel=info.get("KernelVersion", ""),
        platform=f"{version['Os']}/{version['Arch']}",
        processors=info["NCPU"],
    )


def _services(run: Run) -> tuple[Service, ...]:
    """The images of the services that the run's servers have."""
    trial = run.trial
    try:
        found = service_images.references(
            trial.client, run.servers.needed_services, trial.options.service_images
        )
    except UserError:
        return ()  # no test has used one that is not there
    services = []
    for name, reference in found.items():
        try:
            image = trial.client.images.get(reference)
        except ImageNotFound:
            continue
        services.append(
            Service(
                name=name,
                reference=reference,
                digest=image.id or "",
                version=image.labels.get(_VERSION_LABEL, ""),
            )
        )
    return tuple(services)
