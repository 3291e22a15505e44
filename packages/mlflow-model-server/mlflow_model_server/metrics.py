"""Metrics of the server, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0),
)


class Metrics:
    """The server's metrics; there is one process that counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        kept = self._registry
        self._requests = Counter(
            "mlflow_model_requests", "Requests answered.", ["path", "status"], registry=kept
        )
        self._seconds = Histogram(
            "mlflow_model_request_duration_seconds",
            "From the head of a request to the end of its answer.",
            ["path"],
            buckets=_BUCKETS,
            registry=kept,
        )
        self._received = Counter(
            "mlflow_model_request_bytes", "Bytes of requests' bodies.", ["path"], registry=kept
        )
        self._sent = Counter(
            "mlflow_model_response_bytes", "Bytes of answers' bodies.", ["path"], registry=kept
        )
        self.refused = Counter(
            "mlflow_model_refused",
            "Requests and connections that were refused before they were read.",
            ["status"],
            registry=kept,
        )
        self.in_flight = Gauge(
            "mlflow_model_requests_in_flight", "Requests not answered yet.", registry=kept
        )
        self.waiting = Gauge(
            "mlflow_model_requests_waiting", "Requests that wait for a worker.", registry=kept
        )
        self.held = Gauge(
            "mlflow_model_request_bytes_held",
            "Bytes of requests being read or answered.",
            registry=kept,
        )
        self.unsent = Gauge(
            "mlflow_model_response_bytes_unsent",
            "Bytes of long answers that their clients have not read.",
            registry=kept,
        )
        self.ready = Gauge(
            "mlflow_model_workers_ready", "Workers that have loaded the model.", registry=kept
        )
        self.restarts = Counter(
            "mlflow_model_worker_restarts", "Workers that died and were replaced.", registry=kept
        )
        self._build = Info("mlflow_model_server", "What is served, and by what.", registry=kept)

    def describe(self, **facts: str) -> None:
        """Say what is served."""
        self._build.info(facts)

    def count(self, path: str, status: int, seconds: float, received: int, sent: int) -> None:
        """Count a request that has been answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
        self._received.labels(path).inc(received)
        self._sent.labels(path).inc(sent)

    def text(self) -> bytes:
        """Write all metrics as Prometheus reads them."""
        return generate_latest(self._registry)
