"""The hooks: when a trial begins and ends, and how tests, images and workers come together."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from docker.errors import APIError

from seatrial import scratch
from seatrial.errors import UserError
from seatrial.stack.subject import NOT_BUILT
from seatrial.stack.waiting import ContainerError
from seatrial.trial import ending, promising, reporting
from seatrial.trial import options as trial_options
from seatrial.trial.fixtures import (
    TRIAL_KEY,
    case,
    client,
    direct_client,
    direct_server,
    embedded_server,
    experiment,
    launch,
    main_settings,
    postgresql_server,
    promised,
    run_in_image,
    s3_server,
    serve,
    server,
    services,
    serving,
    subject,
    trial,
    workplace,
)
from seatrial.trial.options import TrialOptions
from seatrial.trial.state import Trial

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from seatrial.stack.subject import Subject

__all__ = [
    "case",
    "client",
    "direct_client",
    "direct_server",
    "embedded_server",
    "experiment",
    "launch",
    "main_settings",
    "postgresql_server",
    "promised",
    "run_in_image",
    "s3_server",
    "serve",
    "server",
    "services",
    "serving",
    "subject",
    "trial",
    "workplace",
]

INVITATION = "seatrial_trial"
LEFT_OUT = "seatrial_left_out"
LEFT_OUT_KEY: pytest.StashKey[list[str]] = pytest.StashKey()
SHARED_FIXTURES = {
    "direct_server": "direct server",
    "embedded_server": "embedded server",
    "server": "main server",
    "postgresql_server": "main server",
    "s3_server": "main server",
    "serving": "served models",
}
"""Fixtures whose server is shared: their tests go to one worker, so that it starts once."""

TRACKING_FIXTURES = {*SHARED_FIXTURES, "launch", "confined_server"} - {"serving"}
"""Fixtures, asked for by tests or by way of others, that need MLflow's own server."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the trial's options."""
    trial_options.add(parser)
    parser.addini("seatrial_acceptance", "the folder of the acceptance tests", default="acceptance")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks, and provide a folder for temporary files."""
    if not hasattr(config, "workerinput"):  # the workers of xdist inherit the controller's
        stack = ExitStack()
        place = stack.enter_context(scratch.for_temporary_files())
        config.add_cleanup(stack.close)
        if config.option.basetemp is None:
            # Below a folder for each user and run, paths of sockets get too long.
            config.option.basetemp = place / "tests"
    config.stash[LEFT_OUT_KEY] = []
    for mark in (
        f"{promising.MARK}(key, item=None): the promise of a contract that the test tries",
        "native: not run under emulation",
    ):
        config.addinivalue_line("markers", mark)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin the trial, or join it as a worker, where acceptance tests are asked for."""
    config = session.config
    if not _wants_acceptance(config):
        return
    worker_input: dict[str, Any] | None = getattr(config, "workerinput", None)
    try:
        options = TrialOptions.of(config)
        if worker_input is not None:
            config.stash[TRIAL_KEY] = Trial.join(options, worker_input[INVITATION])
            return
        ending.heed()
        trial = Trial.begin(options, _acceptance(config))
        config.stash[TRIAL_KEY] = trial
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    except APIError as error:
        raise pytest.UsageError(f"the container engine refused: {error.explanation}") from None


def pytest_configure_node(node: Any) -> None:  # noqa: ANN401 - xdist has no types
    """Invite an xdist worker (a hook of xdist)."""
    if trial := node.config.stash.get(TRIAL_KEY, None):
        node.workerinput[INVITATION] = trial.invitation()


def pytest_testnodedown(node: Any, error: object) -> None:  # noqa: ANN401, ARG001
    """Take over what a worker has left out (a hook of xdist)."""
    output = getattr(node, "workeroutput", {})
    node.config.stash[LEFT_OUT_KEY] += output.get(LEFT_OUT, [])


@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt() -> None:
    """End in peace: the first Ctrl-C is enough."""
    ending.heed_no_more()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the controller what this worker has left out."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[LEFT_OUT] = session.config.stash[LEFT_OUT_KEY]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each image (and item) that makes its promises."""
    trial = metafunc.config.stash.get(TRIAL_KEY, None)
    if trial is None or "case" not in metafunc.fixturenames:
        return
    claims = promising.claims_of(metafunc.definition)
    if not claims:
        raise pytest.UsageError(f"{metafunc.definition.nodeid} says no promise: mark it with one")
    itemwise = "promised" in metafunc.fixturenames
    subjects = _of_its_kind(trial, metafunc.fixturenames)
    found = promising.cases(claims, subjects, trial.options, itemwise=itemwise)
    if any(metafunc.definition.iter_markers("native")):
        emulated = [case for case in found if not case.subject.native]
        found = [case for case in found if case.subject.native]
        metafunc.config.stash[LEFT_OUT_KEY] += [
            f"{metafunc.definition.nodeid}[{case.subject.label}]: native only" for case in emulated
        ]
    metafunc.parametrize(
        "case", [_parameter(metafunc, case, itemwise) for case in found] or [None], indirect=True
    )


def _of_its_kind(trial: Trial, fixtures: Sequence[str]) -> list[Subject]:
    """The images that a test can be about: it asks for a server of MLflow's or of a model."""
    if "serving" in fixtures:
        return [subject for subject in trial.subjects if subject.contract.serves_models]
    if TRACKING_FIXTURES.intersection(fixtures):
        return trial.tracking
    # One that is still to be built can only be built.
    return [subject for subject in trial.subjects if subject.configuration is not NOT_BUILT]


def _parameter(metafunc: pytest.Metafunc, case: promising.Case, itemwise: bool) -> object:
    label = case.subject.label
    item = case.promises[0].item if itemwise else None
    groups = (group for name, group in SHARED_FIXTURES.items() if name in metafunc.fixturenames)
    shared = next(groups, None)
    marks = [pytest.mark.xdist_group(f"{label} {shared}")] if shared else []
    return pytest.param(case, id=f"{label}-{item}" if item else label, marks=marks)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop tests that no image promises, and those that weren't asked for.

    The promises of the others are noted for the reports.
    """
    kept: list[pytest.Item] = []
    unwanted: list[pytest.Item] = []
    trial = config.stash.get(TRIAL_KEY, None)
    for item in items:
        found = _case_of(item)
        if found is None and "case" in getattr(item, "fixturenames", ()):
            continue
        tried = found.promises if found else ()
        if trial and not promising.is_wanted(*tried, options=trial.options):
            unwanted.append(item)
            continue
        kept.append(item)
        if found is None:
            continue
        item.user_properties += [
            (reporting.PROMISE_PROPERTY, f"{found.subject.label}: {promise}")
            for promise in found.promises
        ]
    items[:] = kept
    if unwanted:
        config.hook.pytest_deselected(items=unwanted)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the trial, or leave it as a worker."""
    trial = config.stash.get(TRIAL_KEY, None)
    if trial is None:
        return
    if hasattr(config, "workerinput"):
        trial.client.close()
        return
    try:
        trial.end()
    except UserError as error:
        # Too late for pytest's own ways to end with an error; what needed the engine has failed.
        sys.stderr.write(f"ERROR: {error}\n")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A new test has touched no server yet."""
    if trial := item.config.stash.get(TRIAL_KEY, None):
        trial.touched.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give a failure what is needed to understand it."""
    report = yield
    if call.when == "setup" and call.excinfo and call.excinfo.errisinstance(ContainerError):
        # A server that did not start says why itself; the way through the fixtures adds nothing.
        report.longrepr = str(call.excinfo.value)
    trial = item.config.stash.get(TRIAL_KEY, None)
    found = _case_of(item)
    if report.failed and trial and found:
        reporting.explain(report, item, found, trial)
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """End with the images, the broken promises and what was left out."""
    trial = config.stash.get(TRIAL_KEY, None)
    if trial:
        left_out: list[str] = config.stash[LEFT_OUT_KEY]
        reporting.summarise(terminalreporter, trial, left_out)


def _case_of(item: pytest.Item) -> promising.Case | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("case") if callspec else None


def _acceptance(config: pytest.Config) -> Path:
    return config.rootpath / str(config.getini("seatrial_acceptance"))


def _wants_acceptance(config: pytest.Config) -> bool:
    """Whether any of the paths that pytest was given lies in the acceptance tests, or above."""
    acceptance = _acceptance(config)
    start = config.invocation_params.dir
    paths = [(start / arg.partition("::")[0]).resolve() for arg in config.args]
    return any(
        path == acceptance or acceptance in path.parents or path in acceptance.parents
        for path in paths
    )
