"""True if the model loads and answers, without serving it: for builds of an image that holds it."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from mlflow_entrypoint.errors import EntrypointError, say

from mlflow_model_server import ending, fitness, worker
from mlflow_model_server.frames import Request
from mlflow_model_server.settings import LOAD_TIMEOUT

if TYPE_CHECKING:
    from mlflow_model_server.settings import Settings

_TICK = 0.05
"""Seconds between two looks at the child process."""
_EXAMPLE = "serving_input_example.json"
"""MLflow's name for the input example, as a request has it."""


def run(settings: Settings) -> int:
    """Load the model, and have it answer its input example where it has one.

    A child process does it, for the model's code need not come back.

    Returns:
        the exit code: 1 with one line that says what is wrong.
    """
    limit = settings.load_timeout + settings.request_timeout
    child = os.fork()
    if child == 0:
        ending.leave(_run(settings))
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            if code < 0:
                say(f"the model ends the process that loads it: {signal.Signals(-code).name}")
            return 1 if code < 0 else code
        time.sleep(_TICK)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    say(f"the model does not load and answer within {limit} seconds ({LOAD_TIMEOUT} allows more)")
    return 1


def _run(settings: Settings) -> int:
    try:
        prediction = _check(settings)
    except EntrypointError as error:
        say(str(error))
        return 1
    print(prediction)
    return 0


def _check(settings: Settings) -> str:
    described = fitness.flavor(settings.model)
    if fault := fitness.unmet(settings.model, described):
        raise EntrypointError(fault)
    loaded = worker.load(settings)
    if isinstance(loaded, worker.Failure):
        raise EntrypointError(loaded.message)
    example = settings.model / _EXAMPLE
    if not example.is_file():
        return "the model loads; it has no input example to try"
    request = Request(
        identity="check",
        method="POST",
        path="/invocations",
        raw_path="/invocations",
        query="",
        headers=[("content-type", "application/json")],
    )
    answer = loaded.answer(request, example.read_bytes())
    if answer.status != 200:
        raise EntrypointError(
            f"the model doesn't answer its own input example ({_EXAMPLE}): "
            f"{answer.status} {answer.body.decode(errors='replace')}"
        )
    return "the model loads and answers its input example"
