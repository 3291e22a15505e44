"""Inputs of served models, and the answers that they must get."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pytest

from seatrial.trial.model_cases import Payload

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

    from seatrial.stack.model_server import ModelServer
    from seatrial.trial.model_serving import ModelServers

GIVEN = "given"
"""The model of an image that was given with `--model-image`."""
SCRIPTABLE = "affine"
"""The model that fails and waits when an input tells it to."""
LOAD_SECONDS = "SEATRIAL_LOAD_SECONDS"
CONCURRENCY = "MLFLOW_MODELS_CONCURRENCY"
REQUEST_TIMEOUT = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
JSON = "application/json"
AT_ONCE = 8
"""Clients that ask a server at the same time."""
LOADING = 6
"""Seconds, natively, that a model takes to load where a test looks at a server that loads it."""


class StartServer(Protocol):
    """Start a server of one model for one test; it is removed when the test ends."""

    def __call__(
        self,
        *,
        wait: bool = True,
        variables: Mapping[str, str] | None = None,
        user: str | None = None,
        memory: int | None = None,
    ) -> ModelServer:
        """Start it, and wait until it is ready unless `wait` is off."""


@dataclass(frozen=True)
class ServedSample:
    """A model that an image serves, and an input of the model."""

    model: str
    payload: Payload


def sample_of(serving: ModelServers) -> ServedSample:
    """Take the scriptable model, or the model that was given in its place."""
    model = SCRIPTABLE if SCRIPTABLE in serving.cases else next(iter(serving.cases))
    return ServedSample(model, next(iter(serving.cases[model].payloads.values())))


def require_scriptable(serving: ModelServers) -> str:
    """Return the name of the scriptable model; skip the test where another model was given."""
    if SCRIPTABLE not in serving.cases:
        pytest.skip("the model that was given does not fail or wait when it is told to")
    return SCRIPTABLE


def with_parameters(**parameters: object) -> str:
    """An input of the scriptable model."""
    frame = {"columns": ["x"], "data": [[1.0], [2.5], [-4.0]]}
    return json.dumps({"dataframe_split": frame, "params": parameters})


def scripted(scale: float, shift: float) -> list[dict[str, float]]:
    """Compute what the scriptable model answers here: an image can't have rounded it."""
    return [{"x": x * scale + shift} for x in (1.0, 2.5, -4.0)]


SCRIPTED = Payload(JSON, with_parameters(), scripted(2.0, 0.0))
"""An input of the scriptable model that tells it nothing."""


def at_once(server: ModelServer, payload: Payload) -> list[requests.Response]:
    """Have as many clients as `AT_ONCE` send the same input."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        requests_sent = [
            pool.submit(server.ask, payload.body, payload.content_type) for _ in range(AT_ONCE)
        ]
    return [request.result() for request in requests_sent]


def stop(server: ModelServer) -> None:
    """Send the signal that `docker stop` sends."""
    server.container.kill(server.container.attrs["Config"].get("StopSignal") or signal.SIGTERM)
