"""What tests of models' servers ask, and what they must be answered with."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import requests

    from seatrial.stack.model_server import ModelServer
    from seatrial.trial.model_cases import Payload
    from seatrial.trial.model_serving import Serving

GIVEN = "given"
"""The model of an image that somebody already has."""
SCRIPTABLE = "affine"
"""The model that fails and waits when it is told to."""
LOAD_SECONDS = "SEATRIAL_LOAD_SECONDS"
AT_ONCE = 8
"""Clients that ask a server at the same time."""
LOADING = 6
"""Seconds that a model takes to load where a test wants to see what comes before."""


def scriptable(serving: Serving) -> str:
    """The kind of that model; a test that needs it skips where another one was given."""
    if SCRIPTABLE not in serving.cases:
        pytest.skip("the model that was given does not fail or wait when it is told to")
    return SCRIPTABLE


def any_payload(serving: Serving) -> tuple[str, Payload]:
    """A kind of model, and an input of it."""
    kind = SCRIPTABLE if SCRIPTABLE in serving.cases else next(iter(serving.cases))
    return kind, next(iter(serving.cases[kind].payloads.values()))


def with_parameters(**parameters: object) -> str:
    """An input of the scriptable model."""
    frame = {"columns": ["x"], "data": [[1.0], [2.5], [-4.0]]}
    return json.dumps({"dataframe_split": frame, "params": parameters})


def scripted(scale: float, shift: float) -> list[dict[str, float]]:
    """What that model answers, reckoned here: an image can't have rounded it."""
    return [{"x": x * scale + shift} for x in (1.0, 2.5, -4.0)]


SCRIPTED_ANSWER = scripted(2.0, 0.0)


def at_once(server: ModelServer, *request: str) -> list[requests.Response]:
    """Have as many clients as `AT_ONCE` ask the same."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(server.ask, *request) for _ in range(AT_ONCE)]
    return [one.result() for one in asked]


def stop(server: ModelServer) -> None:
    """As `docker stop` does it."""
    server.container.kill(server.container.attrs["Config"].get("StopSignal") or signal.SIGTERM)
