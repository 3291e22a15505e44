"""The metrics that Prometheus reads from a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from seatrial.stack.server import MLflowServer

    from .factories import LaunchMain

pytestmark = pytest.mark.promise("server.metrics")

FOLDER = "/tmp/seatrial-metrics"
"""The folder in which the server's processes add up their counts; the server makes it."""
FOUND = "/api/2.0/mlflow/experiments/search?max_results=1"
NOT_FOUND = "/api/2.0/mlflow/runs/get?run_id=0123456789abcdef0123456789abcdef"
REQUESTS = "mlflow_http_request_total"
DURATIONS = "mlflow_http_request_duration_seconds_count"
FAMILIES = {
    "mlflow_http_request": "counter",
    "mlflow_http_request_duration_seconds": "histogram",
    "mlflow_exporter_info": "gauge",
}
"""Name and type, as the parser calls them: it takes `_total` off a counter."""

Samples = dict[tuple[str, str], float]
"""Value by name and the label `status`, added up over the other labels."""


def read(server: MLflowServer) -> tuple[dict[str, str], Samples]:
    """Read the type of each family, and the samples, under the server's name on the network."""
    answer = server.get("/metrics", headers={"Host": "mlflow:5000"})
    assert answer.status_code == 200, f"/metrics answers {answer.status_code}: {answer.text[:500]}"
    content_type = answer.headers["content-type"]
    assert content_type.startswith("text/plain"), (
        f"/metrics is served as {content_type}: Prometheus refuses it"
    )
    families, samples = {}, Samples()
    for family in text_string_to_metric_families(answer.text):
        families[family.name] = family.type
        for sample in family.samples:
            key = sample.name, sample.labels.get("status", "")
            samples[key] = samples.get(key, 0) + sample.value
    return families, samples


def test_counters_grow_with_requests(launch_main: LaunchMain) -> None:
    """Counts are exact: nobody else talks to this server, and its processes count together."""
    server = launch_main(name="metrics", options=("--expose-prometheus", FOLDER))
    server.get(FOUND)
    families, before = read(server)
    missing = {name: family for name, family in FAMILIES.items() if families.get(name) != family}
    assert not missing, f"/metrics lacks {missing}; it has {families}"
    for _ in range(7):
        status = server.get(FOUND).status_code
        assert status == 200, f"a search, which /metrics is to count, is answered with {status}"
    for _ in range(3):
        status = server.get(NOT_FOUND).status_code
        assert status == 404, f"a look at an unknown run is answered with {status} instead of 404"
    _, after = read(server)
    grown = {key: value - before.get(key, 0) for key, value in after.items()}
    counted = {status: value for (name, status), value in grown.items() if name == REQUESTS}
    assert counted == {"200": 7, "404": 3}, (
        f"the client sent 7 requests that got 200, and 3 that got 404; by {REQUESTS} in /metrics"
        f" they are {counted}"
    )
    timed = sum(value for (name, _), value in grown.items() if name == DURATIONS)
    assert timed == 10, (
        f"the client sent 10 requests; {DURATIONS} in /metrics has the time of {timed:.0f}"
    )
    if server.image.contract.server.checks_host:
        refused = server.get("/metrics", headers={"Host": "evil.example"})
        assert refused.status_code == 403, (
            f"/metrics is open to every host: `Host: evil.example` is answered with"
            f" {refused.status_code} instead of 403"
        )
