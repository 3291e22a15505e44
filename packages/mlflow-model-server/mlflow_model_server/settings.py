"""Settings of the server, by environment variables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_entrypoint.errors import EntrypointError
from mlflow_entrypoint.settings import ALWAYS, STOP_WAIT, seconds, switch

from mlflow_model_server import addresses, cpus

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

MODEL_PATH = "MLFLOW_MODEL_PATH"
PORT = "MLFLOW_MODELS_PORT"
HOST = addresses.HOST
WORKERS = "MLFLOW_MODELS_WORKERS"
CONCURRENCY = "MLFLOW_MODELS_CONCURRENCY"
THREADS = "MLFLOW_MODELS_THREADS"
MAX_REQUEST_BYTES = "MLFLOW_MODELS_MAX_REQUEST_BYTES"
ACCESS_LOG = "MLFLOW_MODELS_ACCESS_LOG"
REQUIREMENTS = "MLFLOW_MODEL_REQUIREMENTS"
REQUEST_TIMEOUT = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
SEND_TIMEOUT = "MLFLOW_MODELS_SEND_TIMEOUT"
LOAD_TIMEOUT = "MLFLOW_MODELS_LOAD_TIMEOUT"
QUEUE = "MLFLOW_MODELS_QUEUE"
QUEUE_BYTES = "MLFLOW_MODELS_QUEUE_BYTES"
MAX_UNPACKED_BYTES = "MLFLOW_MODELS_MAX_UNPACKED_BYTES"
MAX_UNSENT_BYTES = "MLFLOW_MODELS_MAX_UNSENT_BYTES"
WORKER_MEMORY = "MLFLOW_MODELS_WORKER_MEMORY"
MAX_CONNECTIONS = "MLFLOW_MODELS_MAX_CONNECTIONS"
MAX_HEAD_BYTES = "MLFLOW_MODELS_MAX_HEAD_BYTES"
HEAD_TIMEOUT = "MLFLOW_MODELS_HEAD_TIMEOUT"
IDLE_TIMEOUT = "MLFLOW_MODELS_IDLE_TIMEOUT"
DRAIN_WAIT = ("MLFLOW_DRAIN_WAIT", 0.5)

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""How libraries of numeric code are told; they read it when they are loaded."""

HELP = f"""\
usage: mlflow-model-server [serve | check]

Serves the MLflow model at /opt/ml/model on port 8080: /invocations, /ping, /health, /version as
MLflow's scoring server, and /metrics for Prometheus. `check` only loads the model and has it answer
its input example. Environment variables:

  {WORKERS}            processes that hold the model (default: one per CPU)
  {CONCURRENCY}        requests that one worker answers at a time (CPUs + 4, at most 32)
  {THREADS}            threads of BLAS and OpenMP in each worker (CPUs / workers)
  {MAX_REQUEST_BYTES}  the largest request body, else 413 (67108864: 64 MiB)
  {MAX_UNPACKED_BYTES}
                                  the largest table that a request may unpack to, else 413
                                  (1073741824: 1 GiB)
  {QUEUE}              requests that may wait for a worker, else 503 (as many as
                                  wait no longer than a prediction takes, or 0.1 s)
  {QUEUE_BYTES}        bytes of requests that are held at a time, else 503
                                  (268435456: 256 MiB)
  {MAX_UNSENT_BYTES}   bytes of answers that are held for clients; beyond it, those
                                  who read slowest lose their connections, and a longer
                                  answer is an error (268435456: 256 MiB)
  {WORKER_MEMORY}      bytes of memory that a worker may take before it is ended
                                  (what the container's limit leaves)
  {ACCESS_LOG}         a line for each request: true or false (true)
  {PORT}               (8080)
  {HOST}               the address to listen on: 0.0.0.0 for IPv4 alone, :: for IPv6
                                  alone (both)
  {MODEL_PATH}               the model's folder (/opt/ml/model)
  {REQUIREMENTS}       whether a model whose requirements.txt or Python version
                                  isn't met is refused: enforce or warn (enforce)
  {REQUEST_TIMEOUT}
                                  seconds for an answer, else 504, and the worker that is
                                  still at it is replaced; and for all of a
                                  request to be there, else 408 (60)
  {LOAD_TIMEOUT}       seconds in which a worker must have loaded the model (900)
  {SEND_TIMEOUT}       seconds after which a client that has made no room for
                                  more of its answer loses its connection (60)
  {MAX_CONNECTIONS}    connections that may be open; on others, only health
                                  checks are answered, and all else gets 503 (16384, or
                                  what the hard limit of open files allows)
  {MAX_HEAD_BYTES}     the largest head of a request, else 431 (65536: 64 KiB)
  {HEAD_TIMEOUT}       seconds for all of a request's head to be there, else
                                  408 (10)
  {IDLE_TIMEOUT}       seconds that a connection may be open without a request (75)
  {DRAIN_WAIT[0]}               seconds during which a server that was told to stop still
                                  accepts connections (0.5)
  {STOP_WAIT[0]}                seconds after which a server that was told to stop is
                                  killed (8)
"""


@dataclass(frozen=True)
class Settings:
    """List all settings with the values that count."""

    model: Path
    host: str
    port: int
    workers: int
    concurrency: int
    threads: int
    max_request_bytes: int
    access_log: bool
    enforce_requirements: bool
    request_timeout: int
    load_timeout: int
    send_timeout: int
    queue: int | None
    queue_bytes: int
    max_unpacked_bytes: int
    max_unsent_bytes: int
    worker_memory: int | None
    max_connections: int
    max_head_bytes: int
    head_timeout: int
    idle_timeout: int
    drain_wait: float
    stop_wait: float


def read(environment: Mapping[str, str]) -> Settings:
    """The settings that variables make.

    Raises:
        EntrypointError: a variable holds what it can't.
    """
    processors = cpus.available()
    workers = _integer(environment, WORKERS, processors, 1, 64)
    largest = _integer(environment, MAX_REQUEST_BYTES, 64 << 20, 1, 1 << 40)
    policy = environment.get(REQUIREMENTS) or "enforce"
    if policy not in ("enforce", "warn"):
        raise EntrypointError(f"{REQUIREMENTS} is '{policy}': it takes enforce or warn")
    return Settings(
        # Absolute, for the server may change to another folder.
        model=Path(environment.get(MODEL_PATH) or "/opt/ml/model").absolute(),
        host=addresses.read(environment.get(HOST, "")),
        port=_integer(environment, PORT, 8080, 1, 65535),
        workers=workers,
        # As many as asyncio.to_thread() has threads, by which MLflow's app runs predictions.
        concurrency=_integer(environment, CONCURRENCY, min(32, processors + 4), 1, 64),
        threads=_integer(environment, THREADS, max(1, processors // workers), 1, 1024),
        max_request_bytes=largest,
        access_log=switch(environment, ACCESS_LOG, default=True),
        enforce_requirements=policy == "enforce",
        request_timeout=_integer(environment, REQUEST_TIMEOUT, 60, 1, 1 << 20),
        load_timeout=_integer(environment, LOAD_TIMEOUT, 900, 1, 1 << 20),
        queue=_integer(environment, QUEUE, 0, 0, 1 << 16) if environment.get(QUEUE) else None,
        # A request that is let in has to fit.
        queue_bytes=max(largest, _integer(environment, QUEUE_BYTES, 256 << 20, 1, 1 << 50)),
        max_unpacked_bytes=_integer(environment, MAX_UNPACKED_BYTES, 1 << 30, 1, 1 << 50),
        max_unsent_bytes=_integer(environment, MAX_UNSENT_BYTES, 256 << 20, 1, 1 << 50),
        worker_memory=_integer(environment, WORKER_MEMORY, 0, 0, 1 << 50) or None,
        send_timeout=_integer(environment, SEND_TIMEOUT, 60, 1, 1 << 20),
        max_connections=_integer(environment, MAX_CONNECTIONS, 16384, 1, 1 << 20),
        max_head_bytes=_integer(environment, MAX_HEAD_BYTES, 64 << 10, 1024, 1 << 20),
        head_timeout=_integer(environment, HEAD_TIMEOUT, 10, 1, 1 << 20),
        # Longer than load balancers keep their idle connections, as MLflow's nginx has it.
        idle_timeout=_integer(environment, IDLE_TIMEOUT, 75, 1, 1 << 20),
        drain_wait=seconds(environment, DRAIN_WAIT),
        stop_wait=seconds(environment, STOP_WAIT),
    )


def apply(settings: Settings, environment: MutableMapping[str, str]) -> None:
    """Set what libraries read from the environment, unless it is set."""
    for name in THREAD_VARIABLES:
        environment.setdefault(name, str(settings.threads))
    for name, value in ALWAYS.items():
        environment.setdefault(name, value)


def _integer(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise EntrypointError(f"{name} is '{text}': it takes an integer from {least} to {most}")
    return int(text)
