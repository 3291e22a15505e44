"""The search for answers that differ: none between equal servers, and each planted fault."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis.configuration import set_hypothesis_home_dir, storage_directory

from seatrial.differential import areas, http_answers, reference, search
from seatrial.differential.comparison import HTTP, Normaliser, difference
from seatrial.differential.http_answers import HttpAnswer
from seatrial.differential.pair import Area, Finding, Pair
from seatrial.differential.search import Effort
from seatrial.differential.server_times import labelled
from seatrial.differential.side import Side
from seatrial.differential.steps import Filled, Name, Ref, Step, World
from seatrial.engine.waiting import answers_ok
from seatrial.mutants.proxied import trial
from seatrial.mutants.proxied.faults import ProxiedMutant
from seatrial.mutants.proxied.proxy import Exchange, Fault, answering, faulty
from seatrial.trial.endpoints import Router

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from seatrial.differential.server_times import Key

BRIEF = Effort(examples=60, steps=12, seconds=600, shrinking=600)
"""Bounded by the number of sequences, so that what is found does not depend on the machine."""


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """The client neither tries again nor prints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """MLflow's own server; it can be both sides, since each names what it makes otherwise."""
    with reference.running() as address:
        yield address


def pair_of(server: str, tested: str, area: Area = areas.TRACKING) -> Pair:
    """Two servers on SQLite."""
    return Pair(Side(server, database="sqlite"), Side(tested, database="sqlite"), area)


def within(value: Any, change: Callable[[dict[str, Any]], None]) -> None:
    """Change every table in a JSON value."""
    if isinstance(value, dict):
        change(value)
        for each in list(value.values()):
            within(each, change)
    elif isinstance(value, list):
        for each in value:
            within(each, change)


class NegatedComparison(Fault):
    """`!=` is taken for `=`."""

    def before(self, exchange: Exchange) -> None:
        """Change the request."""
        if exchange.is_about("runs/search") and exchange.body.get("filter"):
            exchange.body["filter"] = exchange.body["filter"].replace("!=", "=")


class ForgottenFailure(Fault):
    """A run that FAILED comes back FINISHED."""

    def after(self, exchange: Exchange) -> None:
        """Change the answer."""

        def change(table: dict[str, Any]) -> None:
            if table.get("status") == "FAILED":
                table["status"] = "FINISHED"

        within(exchange.answer, change)


class LostRuns(Fault):
    """An experiment that is restored has lost its runs."""

    def after(self, exchange: Exchange) -> None:
        """Change the answer."""
        if exchange.is_about("experiments/restore"):
            search = {"experiment_ids": [exchange.body["experiment_id"]], "run_view_type": "ALL"}
            for run in exchange.call("runs/search", search).get("runs", []):
                exchange.call("runs/delete", {"run_id": run["info"]["run_id"]})


class ClippedStep(Fault):
    """A negative step becomes 0."""

    def before(self, exchange: Exchange) -> None:
        """Change the request."""
        if exchange.is_about("runs/log-metric") or exchange.is_about("runs/log-batch"):
            within(exchange.body, self._clip)

    @staticmethod
    def _clip(table: dict[str, Any]) -> None:
        if int(table.get("step", 0)) < 0:
            table["step"] = 0


class FirstPageAgain(Fault):
    """Every page is the first one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: dict[str, Any] = {}

    def after(self, exchange: Exchange) -> None:
        """Change the answer."""
        if not exchange.is_about("runs/search"):
            return
        asked = {key: value for key, value in exchange.body.items() if key != "page_token"}
        with self._lock:
            if "page_token" not in exchange.body:
                self._first[str(asked)] = exchange.answer.get("runs", [])
            else:
                exchange.answer["runs"] = self._first.get(str(asked), [])


class DeletedNeighbour(Fault):
    """With a tag goes the next one."""

    def before(self, exchange: Exchange) -> None:
        """Change the request."""
        if exchange.is_about("runs/delete-tag"):
            run_id = exchange.body["run_id"]
            for key in ("next", "a", "b", "ab", "c1"):
                if key != exchange.body["key"]:
                    answer = exchange.call("runs/delete-tag", {"run_id": run_id, "key": key})
                    if not answer:
                        break


def test_equal_servers_do_not_differ(server: str) -> None:
    side = Side(server, database="sqlite", as_sent=True)
    pair = Pair(side, side, areas.TRACKING)
    effort = Effort(examples=4, steps=12, seconds=600)

    assert search.check(pair, EVERYTHING, effort) is None
    assert search.find(pair, effort, seed=1) is None
    assert pair.executed > 1


def run_steps(number: int) -> list[Step]:
    """A run with tags, a metric and a status, each of its own."""
    run = Ref(f"run_{number}")
    where = {"experiment_id": Ref("experiment_1"), "start_time": number, "run_name": "a"}
    tags = {"key": "a" * number, "next": "b", "last": "c"}
    metric = {"key": "m", "value": 1.0, "timestamp": 5, "step": 1 - number}
    return [
        Step("create_run", {**where, "tags": tags}, run.label, frozenset({"tags"})),
        Step("log_metric", {"run_id": run, **metric}),
        Step(
            "set_terminated",
            {"run_id": run, "status": ("FINISHED", "FAILED", "KILLED")[number - 1]},
        ),
    ]


EVERYTHING = (
    Step("create_experiment", {"name": Name("a")}, "experiment_1"),
    Step("create_experiment", {"name": Name("b")}, "experiment_2"),
    *run_steps(1),
    *run_steps(2),
    *run_steps(3),
    Step(
        "search_runs", {"experiment_ids": [Ref("experiment_1")], "filter_string": "tags.key = 'a'"}
    ),
    Step(
        "search_runs", {"experiment_ids": [Ref("experiment_1")], "filter_string": "tags.key != 'a'"}
    ),
    Step("search_runs", {"experiment_ids": [Ref("experiment_1")], "max_results": 1}),
    Step("delete_tag", {"run_id": Ref("run_3"), "key": "key"}),
    Step("delete_experiment", {"experiment_id": Ref("experiment_1")}),
    Step("restore_experiment", {"experiment_id": Ref("experiment_1")}),
)
"""A sequence in which each of the faults shows, among much that does not show it."""


@pytest.mark.parametrize(
    ("fault", "shows", "most"),
    [
        (NegatedComparison(), "tags.key != 'a'", 3),
        (ForgottenFailure(), "status='FAILED'", 4),
        (LostRuns(), "client.restore_experiment(", 4),
        (FirstPageAgain(), "max_results=1", 4),
        (DeletedNeighbour(), "client.delete_tag(", 3),
        (ClippedStep(), "step=-", 3),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Fault) else "",
)
def test_fault_is_found_and_its_sequence_made_short(
    server: str, fault: Fault, shows: str, most: int
) -> None:
    with faulty(server, fault) as tested:
        finding = search.check(pair_of(server, tested), EVERYTHING, BRIEF)

    assert finding
    assert shows in str(finding)
    assert len(finding.steps) <= most, str(finding)


def test_fault_is_found_by_generated_sequences(server: str) -> None:
    names = ("set_terminated", "log_metric", "set_tag", "delete_run")
    drawn = [each for each in areas.TRACKING.drawn if each.name in names]

    with faulty(server, ForgottenFailure()) as tested:
        pair = pair_of(server, tested, replace(areas.TRACKING, drawn=drawn))
        finding = search.find(pair, BRIEF, seed=1)

    assert finding
    assert "status='FAILED'" in str(finding)
    assert finding.difference.path.endswith("info.status")
    assert len(finding.steps) <= 3, str(finding)


def test_same_seed_gives_the_same_sequences(server: str) -> None:
    drawn: list[list[str]] = []
    for seed in (5, 5, 6):
        drawn.append([])

        class Recording(Pair):
            """Runs nothing."""

            def compare(self, steps: Sequence[Step], *, reading: bool = True) -> Finding | None:  # noqa: ARG002
                """Keep what was drawn."""
                drawn[-1].append("\n".join(map(str, steps)))
                return None

        side = Side(server, database="sqlite")
        search.find(Recording(side, side, areas.TRACKING), Effort(5, 10, seconds=600), seed)

    assert drawn[0] == drawn[1] != drawn[2]


def test_drawing_writes_nothing_to_the_folder_of_hypothesis(tmp_path: Path) -> None:
    before = storage_directory(intent_to_write=False).home_directory
    place = tmp_path / ".hypothesis"  # in the caller's working folder, if nobody sets another
    set_hypothesis_home_dir(place)
    try:
        sequences = search.drawn(areas.TRACKING, 3, 6, seed=1)
        after = storage_directory(intent_to_write=False).home_directory
    finally:
        set_hypothesis_home_dir(before)

    assert len(sequences) == 3
    assert not place.exists()
    assert after == place


def test_sequence_reads_as_python() -> None:
    step = Step(
        "search_runs",
        {
            "experiment_ids": [Ref("experiment_1")],
            "filter_string": Filled("name = '{}' AND id = '{}'", (Name("a"), Ref("run_1"))),
        },
        "run_2",
    )

    assert str(step) == (
        "run_2 = client.search_runs(experiment_ids=[experiment_1],"
        " filter_string=f\"name = 'a' AND id = '{run_1}'\")"
    )


def test_ids_names_and_the_present_are_taken_out() -> None:
    world = World("dabc-", {"experiment_1": "12", "run_1": "f" * 32})
    now = int(time.time() * 1000)
    answer = {
        "experiment_id": "12",
        "name": "dabc-a",
        "artifact_uri": f"mlflow-artifacts:/12/{'f' * 32}/artifacts",
        "start_time": 12,
        "created": now,
        "value": "12",
    }

    assert Normaliser(world, "http://127.0.0.1:5000")(answer) == {
        "experiment_id": "<experiment_1>",
        "name": "a",
        "artifact_uri": "mlflow-artifacts:/<experiment_1>/<run_1>/artifacts",
        "start_time": 12,
        "created": "<now>",
        "value": "12",
    }


def test_time_of_a_server_is_compared_with_what_it_said_before() -> None:
    now = int(time.time() * 1000)
    memory: dict[Key, float] = {}

    def seen(**times: object) -> object:
        return labelled({"body": {"run_id": "a", **times}}, memory)["body"]

    made = {"run_id": "a", "creation_time": "<now>", "last_update_time": "<now>"}
    assert seen(creation_time=now, last_update_time=now) == made
    again = {
        "run_id": "a",
        "creation_time": "<now>, as before",
        "last_update_time": "<now>, another",
    }
    assert seen(creation_time=now, last_update_time=now + 1) == again
    early = seen(creation_time=now, last_update_time=now - 1)
    assert isinstance(early, dict)
    assert early["last_update_time"] == "<now>, earlier than it was made"
    assert seen(creation_time=0, last_update_time=None, name="x", other=5) == {
        "run_id": "a",
        "creation_time": 0,
        "last_update_time": None,
        "name": "x",
        "other": 5,
    }


def test_time_of_nothing_in_particular_is_a_time() -> None:
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    answer = {"a": f"{moment}Z", "b": moment, "c": "2001-01-01T00:00:00Z", "d": [time.time_ns()]}

    assert labelled(answer, {}) == {**answer, "a": "<now>Z", "b": "<now>"}


def test_page_token_is_compared_as_what_it_says() -> None:
    world = World("dabc-", {"run_1": "f" * 32})
    answer = {"next_page_token": base64.b64encode(b'{"name": "dabc-a"}').decode()}

    normalised = Normaliser(world, "http://127.0.0.1:5000")({HTTP: [{"body": answer}]})

    assert normalised == {HTTP: [{"body": {"next_page_token": '{"name": "a"}'}}]}


def test_answers_of_one_thread_are_noted() -> None:
    class Unread(Fault):
        """Adds what no client reads."""

        def after(self, exchange: Exchange) -> None:
            """Change the answer."""
            exchange.answer["unread"] = 1

    with reference_stub({"a": 1}) as server, faulty(server, Unread()) as address:
        with http_answers.noting() as noted, ThreadPoolExecutor(1) as pool:
            pool.submit(requests.get, f"{address}/other", timeout=10).result()
            requests.get(f"{address}/path?x=1", timeout=10)
        requests.get(f"{address}/later", timeout=10)

    assert noted == [HttpAnswer("GET", "/path", 200, {"a": 1, "unread": 1})]


@contextmanager
def reference_stub(answer: object) -> Iterator[str]:
    """Run a server that always answers the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer."""
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with answering(Handler) as address:
        yield address


def test_first_difference_is_named_by_its_path() -> None:
    found = difference({"info": {"tags": [1, 2]}}, {"info": {"tags": [1, 3]}})

    assert found
    assert str(found) == (
        "MLflow answered in info.tags[1]: 2\nthe server answered in info.tags[1]: 3"
    )
    assert difference({"a": 1}, {"a": True}), "a number is no truth value"


def test_reference_ends_with_a_process_that_is_killed() -> None:
    script = (
        "from seatrial.differential import reference\n"
        "with reference.running() as address:\n"
        "    print(address, flush=True)\n"
        "    input()\n"
    )
    words = (sys.executable, "-c", script)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        address = owner.stdout.readline().strip()
        assert answers_ok(f"{address}/health")
        owner.kill()
    deadline = time.monotonic() + 60
    while answers_ok(f"{address}/health"):
        assert time.monotonic() < deadline, f"{address} still answers"
        time.sleep(0.2)


def test_mutant_of_a_proxy_is_refused_and_an_equal_one_is_not(server: str) -> None:
    router = Router()
    steps = [*EVERYTHING, *areas.TRACKING.reads(EVERYTHING)]
    recording = trial.recorded(server, router, areas.TRACKING, steps)
    endpoint = router.endpoints["GET /api/2.0/mlflow/runs/get"]

    def refused(field: str, change: str, direction: str = "received") -> str:
        mutant = ProxiedMutant(endpoint, change, direction, field)
        assert mutant in trial.possible([recording], router)
        found = trial.judge(mutant, server=server, router=router, recordings=[recording])
        # A fault of an answer shows in the recorded one.
        assert found.was_run == (direction == "sent")
        return found.refused

    assert refused("run.info.status", "dropped")
    assert refused("run.data.metrics.step", "one more")
    # The client sends the run's id by an old name as well.
    assert not refused("run_uuid", "dropped", "sent")
