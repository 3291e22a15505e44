"""The server as the engine and a browser see it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import mlflow
import pytest
import requests

from seatrial.stack.confinement import OTHER_USER

from .comparisons import assert_equal

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient

    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.server import MLflowServer
    from seatrial.trial.fixtures import ClientFor, NewName, NewRun

    from .factories import LaunchMain

LATER_SCRIPT = re.compile(r"static/(?:js|css)/[\w.-]+\.chunk\.(?:js|css)(?=[\"'`])")


class _Scripts(HTMLParser):
    """Collects the scripts and style sheets that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "script" and attributes.get("src"):
            self.found.append(str(attributes["src"]))
        if tag == "link" and attributes.get("rel") == "stylesheet":
            self.found.append(str(attributes["href"]))


@pytest.mark.promise("server.capabilities", "tracking")
def test_health(server: MLflowServer) -> None:
    answer = server.get("/health")
    assert (answer.status_code, answer.text) == (200, "OK"), (
        f"GET /health is answered with {answer.status_code} {answer.text[:200]!r}, not 200 'OK'"
    )


@pytest.mark.promise("server.version_label")
def test_version_is_the_labels(server: MLflowServer, image: ImageUnderTest) -> None:
    answer = server.get("/version")
    assert answer.status_code == 200, (
        f"GET /version is answered with {answer.status_code}: {answer.text[:200]}"
    )
    label = image.configuration.labels.get("org.opencontainers.image.version")
    assert answer.text == label, (
        f"the server says of itself, at GET /version, that it is {answer.text[:200]!r};"
        f" the image's label org.opencontainers.image.version says {label!r}"
    )


@pytest.mark.promise("server.capabilities", "ui")
def test_ui_page_and_its_scripts(server: MLflowServer) -> None:
    page = server.get("/")
    assert page.status_code == 200, (
        f"the UI's page, GET /, is answered with {page.status_code}: {page.text[:200]}"
    )
    content_type = page.headers.get("content-type", "")
    assert content_type.startswith("text/html"), (
        f"the UI's page, GET /, is served as {content_type!r}: a browser doesn't show it"
    )
    scripts = _Scripts()
    scripts.feed(page.text)
    assert scripts.found, f"the UI's page, GET /, loads no script: {page.text[:500]}"
    for source in scripts.found:
        path = urlsplit(urljoin(f"{server.url}/", source)).path
        answer = server.get(path)
        assert answer.status_code == 200, (
            f"the UI's page loads {path}, which is answered with {answer.status_code}"
        )
        content_type = answer.headers.get("content-type", "")
        assert "javascript" in content_type or "css" in content_type, (
            f"the UI's page loads {path}, which is served as {content_type!r}, no script or style"
        )
        assert not answer.text.lstrip().startswith("<"), (
            f"the UI's page loads {path}, which is a page, not a script: {answer.text[:200]}"
        )
        assert len(answer.content) > 100, (
            f"the UI's page loads {path}, which has {len(answer.content)} bytes: it is empty"
        )


@pytest.mark.promise("server.capabilities", "ui")
def test_ui_scripts_that_are_loaded_later(server: MLflowServer) -> None:
    """The page's script names the later ones; a missing script breaks a view, not the page."""
    scripts = _Scripts()
    scripts.feed(server.get("/").text)
    first = next((source for source in scripts.found if source.endswith(".js")), "")
    assert first, f"the UI's page, GET /, loads no script, but only {scripts.found}"
    base, _, _ = urljoin(f"{server.url}/", first).partition("static/js/")
    text = server.get(urlsplit(urljoin(f"{server.url}/", first)).path).text
    later = set(LATER_SCRIPT.findall(text))
    assert later, f"the UI's first script, {first}, names none that it would load later"

    def fault(path: str) -> str | None:
        answer = requests.head(f"{base}{path}", timeout=60 * server.image.scale)
        content_type = answer.headers.get("content-type", "")
        good = answer.ok and ("javascript" in content_type or "css" in content_type)
        return None if good else f"{path}: {answer.status_code} {content_type}"

    with ThreadPoolExecutor(4) as pool:
        faults = [found for found in pool.map(fault, sorted(later)) if found]
    assert not faults, (
        f"of {len(later)} scripts and styles that the UI loads later, {len(faults)} are not served"
        f" as such: {faults[0]}"
    )


@pytest.mark.promise("process.arbitrary_user")
def test_runs_as_another_user(
    launch_main: LaunchMain, client_for: ClientFor, new_run: NewRun
) -> None:
    """Health is not enough: the server takes a run and an artifact."""
    server = launch_main(name="other-user", user=OTHER_USER)
    top = server.container.top()
    users = {row[top["Titles"].index("UID")] for row in top["Processes"]}
    assert users == {OTHER_USER.partition(":")[0]}, (
        f"the container was started as {OTHER_USER}, and its processes run as {users}"
    )
    client = client_for(server)
    run_id = new_run(client)
    client.log_text(run_id, "written by 12345", "folder/note.txt")
    assert_equal(
        f"the text that the client reads of an artifact, of a server that runs as {OTHER_USER},",
        mlflow.artifacts.load_text(f"runs:/{run_id}/folder/note.txt"),
        "written by 12345",
    )


@pytest.mark.promise("process.stops_within")
def test_stops_on_sigterm(launch_main: LaunchMain, promised_number: int) -> None:
    server = launch_main()
    limit = promised_number * server.image.scale
    server.container.kill("SIGTERM")
    try:
        ended = server.container.wait(timeout=limit)
    except requests.RequestException:  # the engine's client raises it at the time limit
        pytest.fail(f"the container still runs {limit} s after SIGTERM")
    code = ended["StatusCode"]
    assert code in (0, 143), (
        f"after SIGTERM the container ended with exit code {code}, not 0 or 143"
    )


def _replaced(before: MLflowServer, launch_main: LaunchMain) -> MLflowServer:
    """Start another container on the same stores."""
    return launch_main(stores=before.stores)


def _started_again(before: MLflowServer, _: LaunchMain) -> MLflowServer:
    """Start the same container, on what its first start left in it."""
    before.container.start()
    before.wait_healthy()
    return before


class TestKeepsData:
    """Data that was stored before a stop, after the next start."""

    pytestmark = pytest.mark.promise("process.keeps_data")

    def _store(self, client: MlflowClient, name: str) -> str:
        run_id = str(client.create_run(client.create_experiment(name)).info.run_id)
        client.set_tag(run_id, "kept", "yes")
        client.log_metric(run_id, "loss", 0.25, step=3)
        client.log_text(run_id, f"kept for {name}", "folder/note.txt")
        client.create_registered_model(name)
        client.create_model_version(name, f"runs:/{run_id}/folder", run_id)
        client.set_registered_model_alias(name, "kept", "1")
        return run_id

    def _check(self, client: MlflowClient, name: str, run_id: str) -> None:
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None, (
            f"the experiment {name}, created before the stop, is not found after the next start"
        )
        assert_equal(
            "the list of runs and their tag that a search finds after the next start",
            [
                (run.info.run_id, run.data.tags.get("kept"))
                for run in client.search_runs([experiment.experiment_id])
            ],
            [(run_id, "yes")],
        )
        assert_equal(
            "the history of a metric (step, value) that the client reads after the next start",
            [(point.step, point.value) for point in client.get_metric_history(run_id, "loss")],
            [(3, 0.25)],
        )
        assert_equal(
            "the run of the model's version that the client reads by alias after the next start",
            client.get_model_version_by_alias(name, "kept").run_id,
            run_id,
        )
        assert_equal(
            "the text of an artifact that the client reads after the next start",
            mlflow.artifacts.load_text(f"runs:/{run_id}/folder/note.txt"),
            f"kept for {name}",
        )

    @pytest.mark.parametrize("come_back", [_replaced, _started_again])
    def test_after_a_stop(
        self,
        come_back: Callable[[MLflowServer, LaunchMain], MLflowServer],
        launch_main: LaunchMain,
        client_for: ClientFor,
        new_name: NewName,
    ) -> None:
        name, before = new_name(), launch_main()
        run_id = self._store(client_for(before), name)

        before.container.stop(timeout=30 * before.image.scale)
        after = come_back(before, launch_main)

        self._check(client_for(after), name, run_id)
