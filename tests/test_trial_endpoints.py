"""Which endpoints of MLflow a run has used: from real requests, and against MLflow's own list."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest
import requests

from seatrial.trial.endpoint_uses import EndpointUses, recording
from seatrial.trial.endpoints import coverage, endpoints, excluded

if TYPE_CHECKING:
    from collections.abc import Iterator


class Handler(BaseHTTPRequestHandler):
    """Answers with a run, or with an error below /refused."""

    def do_POST(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = json.dumps({"run": {"info": {"run_id": "1"}, "data": [{"key": "a"}]}}).encode()
        self.send_response(400 if self.path.startswith("/refused") else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815 - the name that http.server asks for

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    """A server's address."""
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_fields_of_both_directions_are_noted(url: str) -> None:
    uses = EndpointUses()
    with recording(uses):
        requests.post(f"{url}/made%20up?page=2", json={"tags": [{"key": 1}]}, timeout=10)
        requests.get(f"{url}/refused", timeout=10)
        requests.get(f"{url}/stream", stream=True, timeout=10).close()
    requests.get(f"{url}/later", timeout=10)
    assert uses.as_json() == {
        "POST /made up": (
            ["page", "tags", "tags.key"],
            ["run", "run.data", "run.data.key", "run.info", "run.info.run_id"],
        ),
        "GET /stream": ([], []),
    }


def test_uses_of_other_processes_are_added() -> None:
    uses = EndpointUses()
    uses.add({"GET /a": (["x"], [])})
    uses.add({"GET /a": (["y"], ["z"])})
    assert uses.as_json() == {"GET /a": (["x", "y"], ["z"])}


def test_endpoints_are_those_of_both_frameworks_with_their_fields() -> None:
    known = {str(endpoint): endpoint for endpoint in endpoints()}
    assert "GET /health" in known
    assert "POST /v1/traces" in known
    create = known["POST /api/2.0/mlflow/runs/create"]
    assert {"experiment_id", "tags", "tags.key"} <= create.sent
    assert {"run.info.status", "run.data.metrics.value"} <= create.received
    assert not [name for name in known if "ajax-api" in name or "{" in name]


def test_used_endpoint_is_found_below_a_prefix_and_by_the_name_for_the_ui() -> None:
    found = coverage(
        {
            "GET /pre/fix/ajax-api/3.0/mlflow/traces/tr-1": ([], ["trace", "unknown"]),
            "GET /nobody/knows": ([], []),
            "PUT /api/2.0/mlflow-artifacts/artifacts/a/b c": ([], []),
        }
    )
    assert {str(endpoint): both for endpoint, both in found.used.items()} == {
        "GET /api/3.0/mlflow/traces/<trace_id>": ({"trace_id"}, {"trace", "unknown"}),
        "PUT /api/2.0/mlflow-artifacts/artifacts/<path:artifact_path>": ({"artifact_path"}, set()),
    }
    assert "GET /api/3.0/mlflow/traces/<trace_id>" not in map(str, found.gaps)
    assert "POST /api/2.0/mlflow/runs/create" in map(str, found.gaps)
    assert "trace.trace_info" in next(
        both["fields not received"] for both in found.as_json()["used"].values()
    )


def test_summary_names_each_gap_once() -> None:
    found = coverage({"POST /api/2.0/mlflow/runs/create": (["experiment_id"], ["run"])})
    lines = found.summary()
    assert lines[0].startswith(f"1 of {len(endpoints())}, with 2 of their ")
    (runs,) = (line for line in lines if line.startswith("not tried: /api/2.0/mlflow/runs:"))
    assert "POST /delete" in runs
    assert "POST /create," not in runs
    assert sum(line.count(",") + 1 for line in lines[1:]) == len(found.gaps)


def test_what_is_left_out_has_a_reason() -> None:
    reasons = excluded()
    assert all(reasons.values())
    found = coverage({})
    assert len(found.gaps) + len(found.excluded) == len(endpoints())
