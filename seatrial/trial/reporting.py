"""Reports by which a person understands a failure, and what a run has shown."""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
import requests
from docker.errors import NotFound

from seatrial import files
from seatrial.engine.machine_speed import MACHINE_SPEED
from seatrial.engine.waiting import ContainerError
from seatrial.errors import UserError
from seatrial.trial.parametrize import PROMISE_PROPERTY
from seatrial.trial.pool import StartError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seatrial.stack.running_server import RunningServer
    from seatrial.trial.parametrize import TrialCase
    from seatrial.trial.run import Run
    from seatrial.trial.session import TrialSession

NOT_LOGGED = "(it logged nothing meanwhile)"
INSTALLED_PROPERTY = "seatrial.installed"
AGAIN = "run this test again"
"""The title below which a failed test has the command that repeats it."""


def explain(
    report: pytest.TestReport,
    item: pytest.Item,
    call: pytest.CallInfo[None],
    case: TrialCase | None,
    run: Run,
) -> None:
    """Add to a failed `report` its promises, the servers' state and logs, and how to repeat it."""
    if call.when == "setup" and call.excinfo:
        error = call.excinfo.value
        if isinstance(error, (ContainerError, UserError)):
            # It says itself what is wrong; the way through the fixtures adds nothing.
            report.longrepr = str(error)
        if isinstance(error, StartError):
            run.failed_start = item.session.shouldstop = str(error).splitlines()[0]
    if case is None:
        return
    MACHINE_SPEED.refresh()
    if MACHINE_SPEED.sentence:
        report.sections.append(("machine", MACHINE_SPEED.sentence))
    trial = run.trial
    promises = "\n".join(str(promise) for promise in case.promises)
    source = case.source
    report.sections.append((f"promises of {source.contract_path}", promises))
    image = f"{source.reference} ({source.platform}) {trial.image_id(source)}"
    report.sections.append(("image", image))
    try:
        report.sections += [_about(server, run.test_began) for server in run.servers.touched]
    except requests.ConnectionError:
        item.session.shouldstop = "the container engine does not answer any more"
    # xdist adds the test's group to its name; pytest does not know it by that.
    name = item.nodeid.rpartition("]@")
    words = ["pytest", f"{name[0]}]" if name[1] else item.nodeid, *trial.options.as_arguments()]
    report.sections.append((AGAIN, shlex.join(words)))


def _about(server: RunningServer, since: float) -> tuple[str, str]:
    container = server.container
    try:
        container.reload()
    except NotFound:
        return f"container {container.name}", "already removed"
    state = container.attrs["State"]
    text = (
        f"{container.status}, exit code {state['ExitCode']}, out of memory: {state['OOMKilled']}\n"
        f"{server.logs(since=since) or NOT_LOGGED}"
    )
    return f"container {container.name}: state, and what it logged during this test", text


def summarise_endpoints(terminal: pytest.TerminalReporter, run: Run) -> None:
    """Name the endpoints of MLflow that no test has used, and write the file that was asked for."""
    from seatrial.trial.endpoints import coverage

    found = coverage(run.uses.as_json())
    terminal.section(f"endpoints of MLflow {found.version} that the tests used", sep="-")
    for line in found.summary():
        terminal.write_line(line)
    if file := run.trial.options.endpoints:
        files.write_atomically(file, json.dumps(found.as_json(), indent=2) + "\n")


def summarise(
    terminal: pytest.TerminalReporter,
    trial: TrialSession | None,
    left_out: Iterable[str],
) -> None:
    """Say which promises were broken, what was installed, and what was left out."""
    # The lists hold other things too, such as the tests that -k has deselected.
    reports = [
        report
        for found in terminal.stats.values()
        for report in found
        if isinstance(report, pytest.TestReport)
    ]
    installed: dict[str, str] = {}
    broken: dict[str, list[str]] = defaultdict(list)
    for report in reports:
        for name, value in report.user_properties:
            if name == INSTALLED_PROPERTY:
                label, _, found = str(value).partition(": ")
                installed[label] = found
            if name == PROMISE_PROPERTY and report.outcome == "failed":
                label, _, promise = str(value).partition(": ")
                broken[label].append(promise)
    if trial:
        terminal.section("images under test", sep="-")
        for source in trial.sources:
            mode = "native" if source.native else "emulated"
            terminal.write_line(
                f"{source.label} ({mode}): {source.reference} {trial.image_id(source)}".rstrip()
            )
            if versions := installed.get(source.label):
                terminal.write_line(f"    {versions}")
            if trial.options.overlay:
                terminal.write_line(f"    with the files of {trial.options.overlay} over its own")
        terminal.write_line(f"generated tests: --seed {trial.seed} --effort {trial.options.effort}")
        if MACHINE_SPEED.sentence:
            terminal.write_line(MACHINE_SPEED.sentence)
        if trial.removed:
            terminal.write_line(f"removed what a killed run had left: {', '.join(trial.removed)}")
    for label, promises in broken.items():
        terminal.section(f"promises that {label} does not keep", sep="-", red=True)
        for promise in dict.fromkeys(promises):
            terminal.write_line(promise)
    names = sorted(set(left_out))
    if names:
        terminal.section("left out", sep="-")
        for name in names:
            terminal.write_line(name)
