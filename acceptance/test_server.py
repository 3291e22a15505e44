"""The server as the engine and a browser see it."""

from __future__ import annotations

import time
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import pytest

from seatrial.trial.clients import client_of, fresh_name

if TYPE_CHECKING:
    from seatrial.contract import Promise
    from seatrial.stack.server import Server
    from seatrial.stack.subject import Subject
    from seatrial.trial.fixtures import Launch
    from seatrial.trial.state import Trial

OTHER_USER = "12345:0"
"""A uid that no image knows, in the group root: what OpenShift gives a container."""


class _Scripts(HTMLParser):
    """Collects what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag == "script" and said.get("src"):
            self.found.append(str(said["src"]))
        if tag == "link" and said.get("rel") == "stylesheet":
            self.found.append(str(said["href"]))


@pytest.mark.promise("server.capabilities", "tracking")
def test_health(server: Server) -> None:
    answer = server.get("/health")
    assert (answer.status_code, answer.text) == (200, "OK")


@pytest.mark.promise("server.version_label")
def test_version_is_the_labels(server: Server, subject: Subject) -> None:
    answer = server.get("/version")
    assert answer.status_code == 200
    label = subject.configuration.labels.get("org.opencontainers.image.version")
    assert answer.text == label, "GET /version and org.opencontainers.image.version differ"


@pytest.mark.promise("server.capabilities", "ui")
def test_ui_page_and_its_scripts(server: Server) -> None:
    page = server.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    scripts = _Scripts()
    scripts.feed(page.text)
    assert scripts.found, f"the page loads no script: {page.text[:500]}"
    for source in scripts.found:
        path = urlsplit(urljoin(f"{server.url}/", source)).path
        answer = server.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code}"
        kind = answer.headers["content-type"]
        assert "javascript" in kind or "css" in kind, f"{path} is served as {kind}"
        assert not answer.text.lstrip().startswith("<"), f"{path} is a page, not a script"
        assert len(answer.content) > 100, f"{path} is empty"


@pytest.mark.promise("process.arbitrary_user")
def test_runs_as_another_user(
    trial: Trial, launch: Launch, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Not merely healthy: it logs a run and an artifact."""
    from dataclasses import replace

    server = launch(replace(trial.main, name="other-user", user=OTHER_USER))
    top = server.container.top()
    users = {row[top["Titles"].index("UID")] for row in top["Processes"]}
    assert users == {OTHER_USER.partition(":")[0]}, f"its processes run as {users}"
    with client_of(server, monkeypatch) as client:
        run = client.create_run(client.create_experiment(fresh_name(request)))
        client.log_text(run.info.run_id, "written by 12345", "note.txt")
        assert [one.path for one in client.list_artifacts(run.info.run_id)] == ["note.txt"]


@pytest.mark.promise("process.stops_within")
def test_stops_on_sigterm(
    trial: Trial, launch: Launch, promised: Promise, subject: Subject
) -> None:
    server = launch(trial.main)
    limit = int(str(promised.value)) * subject.scale
    started = time.monotonic()
    server.container.kill("SIGTERM")
    ended = server.container.wait(timeout=limit * 3)
    seconds = time.monotonic() - started
    assert seconds <= limit, f"it took {seconds:.1f} s to end after SIGTERM, {limit} s are allowed"
    assert ended["StatusCode"] in (0, 143), f"exit code {ended['StatusCode']} after SIGTERM"


@pytest.mark.promise("process.keeps_data")
def test_replacing_the_container_loses_nothing(
    trial: Trial, launch: Launch, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    before = launch(trial.main)
    content = "kept across containers"
    with client_of(before, monkeypatch) as client:
        experiment = client.create_experiment(fresh_name(request))
        run_id = client.create_run(experiment, tags={"kept": "yes"}).info.run_id
        client.log_metric(run_id, "loss", 0.25, step=3)
        client.log_text(run_id, content, "folder/note.txt")
        client.create_registered_model("kept-model")
    before.container.stop(timeout=30)
    after = launch(trial.main, stores=before.stores)
    assert after.container.id != before.container.id
    with client_of(after, monkeypatch) as client:
        run = client.get_run(run_id)
        assert run.data.tags["kept"] == "yes"
        assert run.data.metrics == {"loss": 0.25}
        assert client.get_registered_model("kept-model").name == "kept-model"
        import mlflow

        assert mlflow.artifacts.load_text(f"runs:/{run_id}/folder/note.txt") == content
