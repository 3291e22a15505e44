"""A worker: it holds the model, and answers one request at a time on each of its sockets.

Requests to /invocations are answered by `mlflow.pyfunc.scoring_server.invocations`, the function
that MLflow's own app calls in a thread: through the app, a small request takes half as long again
(FastAPI, a middleware for the time limit, and a change of threads). The app answers everything
else, and /invocations too where MLflow's function isn't the one that is known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_entrypoint.errors import say

from mlflow_model_server import answers, frames, memory, strict_json, unpacking
from mlflow_model_server.frames import Answer, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_model_server.settings import Settings

LOAD_FAILED = 3
"""The exit code of a worker that could not load the model."""
_END_WAIT = 1.0
"""Seconds for predictions that nobody waits for any more."""
_PARSERS = {"_parse_json_data", "parse_csv_input", "parse_parquet_input"}
"""Functions of MLflow's that read the request: what goes wrong in them is the client's fault."""
_MESSAGE = 300
_TRACES = (
    "MLFLOW_TRACING_DESTINATION",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
)
"""Variables that say where traces go, beside the tracking server's."""


class Failure(NamedTuple):
    """Why the model can't be served."""

    message: str


class Application:
    """MLflow's scoring app, and the function behind it."""

    def __init__(self, model: Any, settings: Settings) -> None:  # noqa: ANN401 - MLflow's
        from mlflow.exceptions import MlflowException
        from mlflow.pyfunc import scoring_server

        self.app = scoring_server.init(model)
        self._model = model
        self._schema = model.metadata.get_input_schema()
        self._invocations: Callable[..., Any] = scoring_server.invocations
        self._refusal: type[Exception] = MlflowException
        known = ["data", "content_type", "model", "input_schema"]
        self._takes_json = _takes_json(scoring_server)
        self._direct = list(inspect.signature(self._invocations).parameters) == known
        self.names = _signature(self._schema, model.metadata.get_params_schema())
        self._thread = threading.local()
        self._limits = unpacking.UnpackingLimits(settings.max_unpacked_bytes)
        self._longest = settings.max_unsent_bytes

    def answer(self, request: Request, body: bytes) -> Answer:
        """Answer a request: no exception of the model's gets past this."""
        _serving.request = request.identity
        try:
            return self._answer(request, body)
        # A model may raise anything, and end the interpreter too; the next request is another one.
        except BaseException as error:  # noqa: BLE001
            return _unexpected(request, error)
        finally:
            _serving.request = None

    def _answer(self, request: Request, body: bytes) -> Answer:
        data = None
        if (request.method, request.path) == ("POST", "/invocations"):
            data, refusal = unpacking.unpack(dict(request.headers), body, self._limits)
            if refusal:
                return refusal
            if not self._takes_json:
                data = body
        if self._direct and data is not None:
            answer = self._invoke(request, data)
        else:
            answer = self._run_app(request, body)
        if answer.status >= 400:
            return self._refused(request, answer, body)
        if data is not None:
            answer = answer._replace(body=strict_json.strict(answer.body))
        if len(answer.body) > self._longest:
            say(f"request {request.identity}: its answer has {len(answer.body)} bytes")
            return answers.error(
                500, "INTERNAL_ERROR", f"the answer is longer than {self._longest} bytes"
            )
        return answer

    def _refused(self, request: Request, answer: Answer, body: bytes) -> Answer:
        where = _origin(answer)
        if where:
            say(f"request {request.identity}: {where}")
        if where.partition(" ")[0].endswith("MemoryError"):
            return answers.out_of_memory()
        content_type = dict(request.headers).get("content-type", "")
        hint = f" (the server's log says where, for request {request.identity})" if where else ""
        return answers.without_data(answer, f"{content_type}\n".encode() + body, self.names, hint)

    def _invoke(self, request: Request, data: Any) -> Answer:  # noqa: ANN401 - bytes, or a dict
        """Call the app as its server does; the time limit is the front's."""
        content_type = dict(request.headers).get("content-type")
        try:
            result = self._invocations(data, content_type, self._model, self._schema)
        except self._refusal as error:
            status = error.get_http_status_code()  # type: ignore[attr-defined]
            text = error.serialize_as_json()  # type: ignore[attr-defined]
            return Answer(status, [("content-type", "application/json")], text.encode())
        content_type = result.mimetype
        if content_type.startswith("text/"):
            content_type = f"{content_type}; charset=utf-8"
        return Answer(result.status, [("content-type", content_type)], result.response.encode())

    def _run_app(self, request: Request, body: bytes) -> Answer:
        if not hasattr(self._thread, "runner"):
            self._thread.runner = asyncio.Runner()
        answer: Answer = self._thread.runner.run(_call(self.app, request, body))
        return answer


def _signature(inputs: Any, parameters: Any) -> set[str]:  # noqa: ANN401 - MLflow's schemas
    """The names and types of a model's inputs and parameters, as MLflow's messages say them."""
    names: set[str] = set()
    for field in inputs.inputs if inputs else []:
        names |= {str(field.name), repr(field), str(field.type), *_properties(field.type)}
    for field in parameters.params if parameters else []:
        names |= {field.name, repr(field)}
    return names


def _properties(data_type: Any) -> set[str]:  # noqa: ANN401 - MLflow's
    """The names in a type that is an object, or a list of such."""
    inner = getattr(data_type, "dtype", None)
    names: set[str] = _properties(inner) if inner is not None else set()
    for field in getattr(data_type, "properties", ()):
        names |= {field.name, *_properties(field.dtype)}
    return names


def _takes_json(scoring_server: Any) -> bool:  # noqa: ANN401 - MLflow's module
    """Tell whether MLflow takes a body that is parsed already, which it would parse twice."""
    try:
        return bool(scoring_server._decode_json_input({}) == {})  # noqa: SLF001
    except (AttributeError, TypeError):
        return False


async def _call(app: Any, request: Request, body: bytes) -> Answer:  # noqa: ANN401 - an ASGI app
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.raw_path.encode("latin-1"),
        "query_string": request.query.encode("latin-1"),
        "root_path": "",
        "headers": [(n.encode("latin-1"), v.encode("latin-1")) for n, v in request.headers],
        "client": None,
        "server": None,
    }
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    started: dict[str, Any] = {}
    pieces: list[bytes] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        else:
            pieces.append(message.get("body", b""))

    await app(scope, receive, send)
    headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in started["headers"]]
    return Answer(
        started["status"],
        [(name, value) for name, value in headers if name.lower() != "content-length"],
        b"".join(pieces),
    )


def _unexpected(request: Request, error: BaseException) -> Answer:
    """What neither MLflow nor the model has made an answer of."""
    trace = "".join(traceback.format_exception(error))
    frames_ = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
    say(f"request {request.identity}: {answers.origin(trace)}")
    if isinstance(error, MemoryError):
        return answers.out_of_memory()
    if frames_ & _PARSERS:
        return answers.error(
            400, "BAD_REQUEST", f"the request's body can't be parsed ({type(error).__name__})"
        )
    return answers.error(
        500,
        "INTERNAL_ERROR",
        f"the request could not be answered ({type(error).__name__});"
        f" the server's log says where, for request {request.identity}",
    )


def _origin(answer: Answer) -> str:
    """Say where the model failed: types and lines of code hold nothing of the request."""
    try:
        parsed = json.loads(answer.body)
    except ValueError:
        return ""
    trace = parsed.get("stack_trace") if isinstance(parsed, dict) else None
    return answers.origin(str(trace)) if trace else ""


class _Serving(threading.local):
    request: str | None = None


_serving = _Serving()


class _WithoutData(logging.Filter):
    """Keeps requests out of MLflow's log: a message made while one is answered may quote it."""

    def __init__(self) -> None:
        super().__init__()
        self._logged: set[tuple[str, int]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if _serving.request is None:
            return True
        place = (record.pathname, record.lineno)
        if place in self._logged:
            return False
        self._logged.add(place)
        record.msg = f"{record.pathname}:{record.lineno} (said once, without the request's data)"
        record.args, record.exc_info, record.exc_text, record.stack_info = (), None, None, None
        return True


def load(settings: Settings) -> Application | Failure:
    """Load the model."""
    _differ()
    import mlflow
    from mlflow import pyfunc
    from mlflow.pyfunc import scoring_server

    # Of each requirement that isn't met, in each worker: the manager has said it. MLflow would look
    # through all that is installed, a third of the time that loading a small model takes.
    logging.getLogger("mlflow.utils.requirements_utils").setLevel(logging.ERROR)
    pyfunc.warn_dependency_requirement_mismatches = _say_nothing  # type: ignore[attr-defined]
    traces = _has_place_for_traces()
    if not traces:
        mlflow.tracing.disable()
    try:
        model = scoring_server.load_model_with_mlflow_config(str(settings.model))  # type: ignore[no-untyped-call]
        application = Application(model, settings)
        if not traces and _has_place_for_traces():
            mlflow.tracing.enable()  # the model has named it while it was loaded
    # The model's own code runs here: whatever it raises, the model can't be loaded.
    except BaseException as error:  # noqa: BLE001
        return Failure(f"the model at {settings.model} can't be loaded: {_describe(error)}")
    if not inspect.iscoroutinefunction(type(application.app).__call__):
        return Failure(
            f"MLflow {mlflow.__version__} serves models without ASGI: the image needs MLflow 3"
        )
    return application


def _has_place_for_traces() -> bool:
    """Tell whether somebody has said where traces go.

    Elsewhere MLflow keeps them in a database in the working folder. Where that can't be written, it
    tries to for longer than a prediction may take; where it can, it is often memory.
    """
    import mlflow

    is_set = bool(mlflow.is_tracking_uri_set())  # type: ignore[no-untyped-call]
    return is_set or any(map(os.environ.get, _TRACES))


def _say_nothing(_: object) -> None:
    """Take MLflow's own question for answered."""


def _describe(error: BaseException) -> str:
    message = " ".join(str(error).split())
    message = message if len(message) <= _MESSAGE else f"{message[:_MESSAGE]}…"
    mend = (
        "the image must hold all that the model imports: add it to the model's requirements.txt"
        " and build the image anew"
        if isinstance(error, ImportError)
        else "mlflow.pyfunc.load_model shows where, with the model's requirements installed"
    )
    return f"{type(error).__name__}: {message} ({mend})"


def _differ() -> None:
    """Random numbers as they would be in a process of its own, not the manager's in each worker."""
    random.seed()
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed()


def serve(
    application: Application, lanes: list[socket.socket], pulse: socket.socket, slots: memory.Slots
) -> None:
    """Answer requests until the front closes the sockets."""
    for handler in logging.getLogger("mlflow").handlers:
        handler.addFilter(_WithoutData())
    threads = [
        threading.Thread(target=_serve_lane, args=(application, lane, number, slots), daemon=True)
        for number, lane in enumerate(lanes)
    ]
    for thread in threads:
        thread.start()
    threading.Thread(target=_beat, args=(pulse,), daemon=True).start()
    threads[0].join()
    deadline = time.monotonic() + _END_WAIT
    for thread in threads[1:]:
        thread.join(max(0.0, deadline - time.monotonic()))


def _beat(pulse: socket.socket) -> None:
    """Say that Python's threads run in this process, whenever the front asks."""
    try:
        while asked := pulse.recv(64):
            pulse.sendall(asked)
    except (BrokenPipeError, ConnectionResetError):
        return  # the front has ended


def _serve_lane(
    application: Application, lane: socket.socket, number: int, slots: memory.Slots
) -> None:
    try:
        frames.send(lane, Answer(0, [], b""))
        while received := frames.receive(lane):
            frames.send(lane, _answer(application, *received, number, slots))
    except (BrokenPipeError, ConnectionResetError):
        return  # the front has ended
    except BaseException as error:  # noqa: BLE001 - a traceback may quote the request
        trace = "".join(traceback.format_exception(error))
        say(f"a thread that answers requests has ended: {answers.origin(trace)}")
    finally:
        # Closed, it would stay open in processes that the model has started; and the front would
        # wait for an answer. It is not connected any more where the front has closed its end.
        with contextlib.suppress(OSError):
            lane.shutdown(socket.SHUT_RDWR)


def _answer(
    application: Application, request: Request, body: bytes, number: int, slots: memory.Slots
) -> Answer:
    slots.begin(number)
    answer = application.answer(request, body)
    slots.end(number)
    return answer


def run(
    settings: Settings,
    lanes: list[socket.socket],
    pulse: socket.socket,
    slots: memory.Slots,
    report: int,
) -> int:
    """Be a worker.

    Args:
        settings: the server's.
        lanes: the sockets.
        pulse: the socket by which the front asks whether this process still runs.
        slots: where the manager sees which thread has a request.
        report: where to write why the model can't be loaded.

    Returns:
        the exit code.
    """
    # The manager ends workers, by the front's closing the sockets. A handler, for what is ignored
    # stays so in programs that the model starts.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    memory.offer_to_kernel()
    loaded = load(settings)
    if isinstance(loaded, Failure):
        os.write(report, loaded.message.encode()[:4096])
        return LOAD_FAILED
    os.close(report)
    serve(loaded, lanes, pulse, slots)
    return 0
