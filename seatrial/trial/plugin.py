"""The hooks: how options, tests, images and the workers of pytest-xdist come together.

Only what is light is imported here: a repository may have the plugin without using it.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from seatrial import scratch
from seatrial.errors import UserError
from seatrial.trial import pytest_options, signals, temporary_files
from seatrial.trial.shared_state import SharedState
from seatrial.trial.sharing import roles_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from seatrial.trial.parametrize import TrialCase
    from seatrial.trial.run import Run

pytest_plugins = ["seatrial.trial.fixtures"]

PACKAGED = "seatrial.acceptance"
"""The acceptance tests, where a repository has none of its own."""
WORKER_PAYLOAD = "seatrial_run"
NEEDED, SERVICES, DESELECTED = "needed", "services", "deselected"
"""The signs of a worker whose tests need images, of one whose tests need services too, and of one
that was to run some of the tests only."""
LEFT_OUT, FAILED_START, USES = "seatrial_left_out", "seatrial_failed_start", "seatrial_uses"
"""Names of what a worker tells the controller."""
COLLECTOR = "seatrial-report"
"""The name of the plugin that collects a report."""
RUN_KEY = pytest.StashKey["Run"]()
LEFT_OUT_KEY = pytest.StashKey[list[str]]()
SHARED_KEY = pytest.StashKey[SharedState]()
FAULT_KEY = pytest.StashKey[UserError]()
"""Why the run can't begin, found while the tests were collected."""


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the trial's options."""
    pytest_options.add(parser)
    parser.addini("seatrial_acceptance", "the repository's own folder of acceptance tests")
    if any(name.endswith("conftest.py") for name, _ in pluginmanager.list_name_plugin()):
        # A conftest has loaded the plugin: it comes too late for the hook below.
        config: Any = pluginmanager.get_plugin("pytestconfig")
        pytest_options.add_short_names(parser, config)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser
) -> Generator[None, object, object]:
    """Declare the short names of the options that no plugin and no conftest has taken."""
    result = yield
    pytest_options.add_short_names(parser, early_config)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks, and provide a folder for the temporary files of a trial."""
    if pytest_options.were_given(config) or _wants_acceptance(config):
        temporary_files.provide(config)
    config.stash[LEFT_OUT_KEY] = []
    if pytest_options.report(config) and not _is_worker(config):
        from seatrial.trial.report_collector import ReportCollector

        config.pluginmanager.register(ReportCollector(config), COLLECTOR)
    mark = "promise(key, item=None): the promise of a contract that the test tries"
    config.addinivalue_line("markers", mark)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse options that contradict each other, whatever tests there are."""
    config = session.config
    if pytest_options.were_given(config) and not _is_worker(config):
        try:
            pytest_options.read(config)
        except UserError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401 - xdist has no types
    """Tell a worker where the processes of the run find each other (a hook of xdist)."""
    node.workerinput[WORKER_PAYLOAD] = str(_shared(node.config).folder)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each image (and item) that makes its promises."""
    if "seatrial_case" not in metafunc.fixturenames:
        return
    from seatrial.trial import parametrize

    config = metafunc.config
    try:
        trial = _run(config).trial
        sources = trial.sources
    except UserError as error:
        config.stash[FAULT_KEY] = error
        metafunc.parametrize("seatrial_case", [None], indirect=True)
        return
    config.stash[LEFT_OUT_KEY] += parametrize.parametrize(
        metafunc, sources, trial.options, strict=_is_acceptance(config, metafunc.definition.path)
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop tests that no image promises, and those that weren't asked for.

    The promises of the others are noted for the reports.
    """
    if not any(map(_needs_images, items)):
        return
    try:
        _require_coverage(config, items)
    except UserError as error:
        # A worker can't end the run: the process that has started it reads the reason.
        _shared(config).refuse(error)
        items.clear()
        if not _is_worker(config):
            raise pytest.UsageError(str(error)) from None
        return
    from seatrial.trial import parametrize

    dropped = parametrize.select(items, _run(config).trial.options)
    if dropped:
        config.hook.pytest_deselected(items=dropped)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Note that something else than the trial's own options has left tests of the trial out."""
    config = items[0].config if items else None
    if config is None or not pytest_options.report(config):
        return
    from seatrial.trial.parametrize import is_wanted

    cases = (_case_of(item) for item in items if _needs_images(item))
    promises = [case.promises for case in cases if case]
    if any(is_wanted(*each, options=_run(config).trial.options) for each in promises):
        _shared(config).note(DESELECTED)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Note what the tests need, for the process that a person has started."""
    if any(map(_needs_images, session.items)):
        _shared(session.config).note(NEEDED)
    if any(map(_needs_services, session.items)):
        _shared(session.config).note(SERVICES)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Find the images before the first test."""
    config = session.config
    if config.option.collectonly or session.testsfailed or _is_worker(config):
        return
    if any(map(_needs_images, session.items)):
        _begin(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any) -> None:  # noqa: ANN401
    """Find the images before the first test of any worker (a hook of xdist)."""
    shared = _shared(node.config)
    try:
        shared.require_no_fault()
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    if shared.is_noted(NEEDED) and RUN_KEY not in node.config.stash:
        _begin(node.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401
    """Take over what a worker has to tell (a hook of xdist)."""
    output = getattr(node, "workeroutput", {})
    node.config.stash[LEFT_OUT_KEY] += output.get(LEFT_OUT, [])
    if run := node.config.stash.get(RUN_KEY, None):
        run.failed_start = run.failed_start or output.get(FAILED_START, "")
        run.uses.add(output.get(USES, {}))


@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt() -> None:
    """Ignore further Ctrl-C: the cleanup must finish."""
    signals.ignore_further_signals()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the controller what this worker has to tell; tell a broken start from failed tests."""
    run = session.config.stash.get(RUN_KEY, None)
    if run and session.exitstatus == pytest.ExitCode.INTERRUPTED:
        # xdist gives its workers ten seconds, and a server may take longer to start.
        run.trial.interrupt()
    failed_start = run.failed_start if run else ""
    if run and (collector := session.config.pluginmanager.get_plugin(COLLECTOR)):
        limits = _limits(session, run)
        try:
            collector.write(run, limits, session.config.stash[LEFT_OUT_KEY])
        except UserError as error:
            sys.stderr.write(f"ERROR: {error}\n")
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        uses = run.uses.as_json() if run else {}
        left_out = session.config.stash[LEFT_OUT_KEY]
        output |= {LEFT_OUT: left_out, FAILED_START: failed_start, USES: uses}
    elif failed_start:
        # With `--exitfirst`, pytest would call it a failed test.
        session.exitstatus = pytest.ExitCode.INTERRUPTED


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what the run has started, and end with the reason where there is one."""
    run = config.stash.get(RUN_KEY, None)
    if run is None:
        return
    # Too late for pytest's own ways to end with an error.
    if run.failed_start and not _is_worker(config):
        sys.stderr.write(f"ERROR: {run.failed_start}\n")
    try:
        run.trial.end()
    except UserError as error:
        sys.stderr.write(f"ERROR: {error}\n")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Forget the servers of the test before, and see how fast the machine is now."""
    run = item.config.stash.get(RUN_KEY, None)
    if run is None:
        return
    run.servers.touched.clear()
    run.test_began = time.time()
    if _needs_images(item):
        from seatrial.engine.machine_speed import MACHINE_SPEED

        # Not in the middle of a test: its limits and those of its servers belong together.
        MACHINE_SPEED.refresh()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give a failure what is needed to understand it."""
    report = yield
    if report.failed and (run := item.config.stash.get(RUN_KEY, None)) and _needs_images(item):
        from seatrial.trial import reporting

        reporting.explain(report, item, call, _case_of(item), run)
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """End with the images, the broken promises and what was left out."""
    run = config.stash.get(RUN_KEY, None)
    if run is None or FAULT_KEY in config.stash:
        return
    from seatrial.trial import reporting

    shown = run.trial if run.trial.has_images or config.option.collectonly else None
    left_out: list[str] = config.stash[LEFT_OUT_KEY]
    reporting.summarise(terminalreporter, shown, left_out)
    if run.trial.has_images and run.trial.options.report:
        terminalreporter.write_line(f"report: {run.trial.options.report / 'report.html'}")
    if run.trial.has_images and (run.trial.options.endpoints or _is_whole(config, run)):
        reporting.summarise_endpoints(terminalreporter, run)


def _begin(config: pytest.Config) -> None:
    run, capture = _run(config), config.pluginmanager.getplugin("capturemanager")
    try:
        run.trial.begin()
        if _shared(config).is_noted(SERVICES):
            # Minutes, where they are built: that is shown.
            with capture.global_and_fixture_disabled() if capture else nullcontext():
                run.servers.build_services()
    except UserError as error:
        raise pytest.UsageError(str(error)) from None


def _is_whole(config: pytest.Config, run: Run) -> bool:
    """Whether all tests of an MLflow server were to run, rather than some that were picked."""
    picked = config.option.keyword or config.option.markexpr or run.trial.options.promises
    return not picked and "::" not in "".join(config.args) and bool(run.trial.tracking)


def _limits(session: pytest.Session, run: Run) -> tuple[str, ...]:
    """What kept the run from being a whole trial, as people know it."""
    config, options = session.config, run.trial.options
    option = config.option
    ended = session.exitstatus
    whole = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    limits = {
        "-k, -m or another choice of tests": _shared(config).is_noted(DESELECTED),
        "the tests that were named": not _names_all(config),
        "--ignore": bool(option.ignore or option.ignore_glob),
        "--maxfail": bool(option.maxfail),
        "--overlay": bool(options.overlay),
        f"its end (exit code {int(ended)})": ended not in whole,
    }
    promises = [f"--promise {selector}" for selector in options.promises]
    return (*promises, *(name for name, applies in limits.items() if applies))


def _run(config: pytest.Config) -> Run:
    """The run's parts in this process, put together at the first call.

    Raises:
        UserError: an option is unknown, or two of them contradict each other.
    """
    if RUN_KEY not in config.stash:
        from seatrial.trial.endpoint_uses import recording
        from seatrial.trial.run import Run

        run = config.stash[RUN_KEY] = Run(pytest_options.read(config), _shared(config))
        stack = ExitStack()
        stack.enter_context(recording(run.uses))
        config.add_cleanup(stack.close)
    return config.stash[RUN_KEY]


def _shared(config: pytest.Config) -> SharedState:
    """Share state among the processes of the run; the first makes the folder and removes it."""
    if SHARED_KEY not in config.stash:
        worker_input: dict[str, Any] | None = getattr(config, "workerinput", None)
        if worker_input is None:
            stack = ExitStack()
            folder = stack.enter_context(scratch.folder())
            config.add_cleanup(stack.close)
        else:
            folder = Path(worker_input[WORKER_PAYLOAD])
        config.stash[SHARED_KEY] = SharedState(folder)
    return config.stash[SHARED_KEY]


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _needs_images(item: pytest.Item) -> bool:
    names = getattr(item, "fixturenames", ())
    return "seatrial_run" in names or "seatrial_case" in names


def _needs_services(item: pytest.Item) -> bool:
    names = getattr(item, "fixturenames", ())
    return "seatrial_services" in names or "tracking" in roles_of(names)


def _case_of(item: pytest.Item) -> TrialCase | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("seatrial_case") if callspec else None


def _require_coverage(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Raise what was found while the tests were collected, or that a promise has no test."""
    if FAULT_KEY in config.stash:
        raise config.stash[FAULT_KEY]
    run = _run(config)
    acceptance = _acceptance(config)
    if acceptance and any(acceptance[0] in item.path.parents for item in items):
        from seatrial.trial import parametrize

        parametrize.require_coverage(run.trial.sources, *acceptance)


def _acceptance(config: pytest.Config) -> tuple[Path, str] | None:
    """The folder of the acceptance tests, and its name as Python imports it; None without any."""
    if own := str(config.getini("seatrial_acceptance")):
        folder = config.rootpath / own
        return folder, folder.name
    found = importlib.util.find_spec(PACKAGED)
    return (Path(found.origin).parent, PACKAGED) if found and found.origin else None


def _is_acceptance(config: pytest.Config, path: Path) -> bool:
    acceptance = _acceptance(config)
    return acceptance is not None and acceptance[0] in path.parents


def _wants_acceptance(config: pytest.Config) -> bool:
    """Whether pytest was given acceptance tests: the repository's own, or the packaged ones."""
    acceptance = _acceptance(config)
    if acceptance is None:
        return False
    folder, package = acceptance
    start = config.invocation_params.dir
    names = [arg.partition("::")[0] for arg in config.args]
    paths = [(start / name).resolve() for name in names]
    if package == PACKAGED and any(name.startswith(PACKAGED) for name in names):
        return True
    # Above the packaged tests there may be any repository with an environment in it.
    above = set() if package == PACKAGED else {*folder.parents}
    return any(path == folder or folder in path.parents or path in above for path in paths)


def _names_all(config: pytest.Config) -> bool:
    """Whether pytest was given all acceptance tests, rather than some files of them."""
    acceptance = _acceptance(config)
    if acceptance is None:
        return False
    folder, package = acceptance
    start = config.invocation_params.dir
    return package in config.args or any(
        path == folder or path in folder.parents
        for path in ((start / name).resolve() for name in config.args)
    )
