"""Costs of a trial's session beside its tests, and of the whole trial."""

from __future__ import annotations

import re
import sys
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from bench.figures import SECONDS, Bar, Figure, median_seconds
from bench.trial_services import services_session
from seatrial.backends import ALWAYS
from seatrial.engine import connection
from seatrial.errors import UserError
from seatrial.stack.labels import OWNER_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.measuring import Stopwatch
    from bench.runner import Runner

LIMIT = 240.0
REPEAT = 3

# Small tests of the shared server, none of which starts a container of its own.
TESTS = (
    "acceptance/test_server.py::test_health",
    "acceptance/test_server.py::test_version_is_the_labels",
    "acceptance/test_tracking.py::test_param_can_not_change",
    "acceptance/test_tracking.py::test_unknown_run_is_not_found",
    "acceptance/test_tracking.py::test_nested_runs",
)


def measure(watch: Stopwatch, runner: Runner, *, full: bool) -> list[Figure]:
    """Measure the start of the services, and count the starts in a short and in a longer session.

    Args:
        watch: keeps the samples.
        runner: runs the sessions, on the images of a plain `invoke build`.
        full: also run the whole trial.

    Raises:
        UserError: a session failed.
    """
    names = ALWAYS
    for _ in range(REPEAT):
        _start_services(watch)
    start = median_seconds(watch.last(REPEAT))
    started, tests = {}, {}
    for chosen in (TESTS[:1], TESTS):
        size = len(chosen)
        with watch.measure(f"a session of {size} tests", containers=True) as detail:
            starts = Starts(names)
            command = [sys.executable, "-m", "pytest", *chosen, "-p", "no:cacheprovider"]
            with starts.counting():
                output = runner.run(command, started=starts.belong_to)
            detail["services started"] = started[size] = starts.count
            detail["tests"] = tests[size] = passed(output)
    single, several = (sample.seconds for sample in watch.last(2))
    few, many = tests[1], tests[len(TESTS)]
    seconds = (several - single) / (many - few)
    figures = [
        Figure(
            f"service containers in a session of {many} tests",
            "starts",
            started[len(TESTS)],
            "as many for every test",
            len(names) * many,
            Bar(value=len(names)),
            f"a session of {few} test started {started[1]}",
        ),
        Figure(
            "starting the services, once a session",
            SECONDS,
            start,
            f"a session of {many} tests",
            several,
            note=f"{start / several:.0%} of the session; one more small test costs {seconds:.1f} s",
        ),
    ]
    if full:
        figures.append(_whole(watch, runner, single))
    return figures


def _whole(watch: Stopwatch, runner: Runner, single: float) -> Figure:
    with watch.measure("invoke test", containers=True) as detail:
        output = runner.run([sys.executable, "-m", "invoke", "test"])
        detail["tests"] = count = passed(output)
    return Figure(
        f"warm invoke test, {count} tests",
        SECONDS,
        median_seconds(watch.last(1)),
        "a session of its own for every test",
        single * count,
        Bar(value=LIMIT),
        "the baseline is reckoned from a session of one small test",
    )


def passed(output: str) -> int:
    """Read from pytest's last line how many tests passed.

    Raises:
        UserError: no test passed.
    """
    found = re.findall(r"\b(\d+) passed\b", output)
    if not found:
        raise UserError("no test passed in a measured session: see the log beside the report")
    return int(found[-1])


class Starts:
    """Counts the starts of service containers by one session of the trial."""

    def __init__(self, services: tuple[str, ...]) -> None:
        self.count = 0
        self._services = services
        self._owner = 0

    def belong_to(self, owner: int) -> None:
        """Count only the containers of the session that process `owner` began."""
        self._owner = owner

    def take(self, attributes: Mapping[str, str]) -> None:
        """Count a started container, given its attributes."""
        words = attributes.get(OWNER_LABEL, "").rsplit(" ", 2)
        is_owner = len(words) == 3 and words[1] == str(self._owner)
        self.count += is_owner and attributes.get("name", "").endswith(self._services)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count while the block runs."""
        with closing(connection.connect()) as client:
            filters = {"type": "container", "event": "start", "label": OWNER_LABEL}
            stream = client.events(decode=True, filters=filters)

            def follow() -> None:
                for event in stream:
                    self.take(event["Actor"]["Attributes"])

            thread = threading.Thread(target=follow, daemon=True)
            thread.start()
            try:
                yield
            finally:
                stream.close()
                thread.join()


def _start_services(watch: Stopwatch) -> None:
    with (
        services_session() as (_, _, services),
        watch.measure("starting the services", containers=True),
    ):
        services.start()
