"""The server of models as processes: protocol, honesty about faults, ends."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import mlflow
import pandas as pd
import psutil
import pytest
import requests
from anyio.pytest_plugin import FreePortFactory
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

free_port = FreePortFactory(socket.SOCK_STREAM)
PACKAGE = Path(__file__).parents[1]
FOLDERS = [PACKAGE, PACKAGE.with_name("mlflow-entrypoint")]
JSON = {"content-type": "application/json"}
MARKER = "do-not-repeat-4711"

SCRIPTED = """
import asyncio, ctypes, multiprocessing, os, signal, sys, threading, time
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Panic(BaseException):
    pass

class Deep(MlflowException):
    def serialize_as_json(self):
        return "[" * 100_000

def hold(seconds):
    # As extensions do that keep Python's lock while they compute.
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))

def seize():
    time.sleep(0.5)
    hold(1000)

def fork():
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(300)
        os._exit(0)

class Scripted(PythonModel):
    def load_context(self, context):
        steps, loads = os.environ.get("TEST_LOAD", "").split(" then "), 1
        if count := os.environ.get("TEST_COUNT"):
            with open(count, "a") as file:
                file.write(".")
            loads = os.path.getsize(count)
        how = steps[min(loads, len(steps)) - 1]
        if how == "sleep":
            time.sleep(1.5)
        elif how == "hang":
            time.sleep(1000)
        elif how == "raise":
            raise ValueError("there is no such\\nfile of weights")
        elif how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "fork":
            fork()
        elif "thread" in how:
            threading.Thread(target=time.sleep, args=(300,)).start()
        elif "child" in how:
            multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,)).start()
        elif how == "panic":
            raise Panic("it panicked")
        if how.endswith("and raise"):
            raise ValueError("it raised")

    def predict(self, context, model_input: pd.DataFrame, params=None):
        def one(word):
            action, _, rest = word.partition(":")
            if action == "sleep":
                time.sleep(float(rest))
            elif action == "hold":
                hold(float(rest))
            elif action == "seize":
                threading.Thread(target=seize, daemon=True).start()
            elif action == "eat":
                eaten = []
                for _ in range(int(rest) >> 24):
                    eaten.append(b"x" * (1 << 24))
            elif action == "too much":
                bytearray(1 << 60)
            elif action == "exit":
                os._exit(9)
            elif action == "sys.exit":
                sys.exit(9)
            elif action == "raise":
                raise ValueError(f"it was {word}")
            elif action == "panic":
                raise Panic(f"it was {word}")
            elif action == "cancel":
                raise asyncio.CancelledError(f"it was {word}")
            elif action == "deep":
                raise Deep(f"it was {word}")
            elif action == "mute":
                import mlflow_model_server.frames
                mlflow_model_server.frames.send = None
            elif action == "large":
                return "x" * int(rest)
            elif action == "refuse":
                raise MlflowException(f"it was {word}, of '{word}'")
            elif action == "pid":
                return str(os.getpid())
            elif action == "threads":
                return os.environ["OPENBLAS_NUM_THREADS"]
            elif action == "unjsonable":
                return object()
            return word
        return [one(word) for word in model_input["do"]]

set_model(Scripted())
"""


class Server(NamedTuple):
    """A started server, and where it writes."""

    process: subprocess.Popen[bytes]
    port: int
    output: Path
    errors: Path

    def url(self, path: str = "/invocations") -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}{path}"

    def invoke(self, *words: str, timeout: float = 30) -> requests.Response:
        """Have the model do what the words say."""
        return requests.post(self.url(), json={"dataframe_split": _frame(words)}, timeout=timeout)

    def status(self) -> int | None:
        """Of /ping; None where nobody listens."""
        try:
            return requests.get(self.url("/ping"), timeout=10).status_code
        except requests.ConnectionError:
            return None

    def log(self) -> str:
        """All that it wrote."""
        return self.output.read_text() + self.errors.read_text()

    def log_after(self, answer: requests.Response) -> str:
        """All that it wrote, with the line of a request."""
        identity = answer.headers["x-request-id"]
        _until(lambda: identity in self.output.read_text(), "it wasn't logged")
        return self.log()

    def workers(self) -> list[psutil.Process]:
        """They have lanes, and threads for them; the front hasn't."""
        [manager] = psutil.Process(self.process.pid).children()
        return [one for one in manager.children() if one.num_threads() > 3]

    def front(self) -> psutil.Process:
        """The process that answers HTTP."""
        [manager] = psutil.Process(self.process.pid).children()
        return manager.children()[0]


def _frame(words: tuple[str, ...]) -> dict[str, Any]:
    return {"columns": ["do"], "data": [[word] for word in words]}


def _environment(**variables: str) -> dict[str, str]:
    """Of a process that finds the server's modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, FOLDERS)), **variables}


@contextmanager
def started(
    model: Path, folder: Path, prefix: tuple[str, ...] = (), /, **variables: str
) -> Iterator[Server]:
    """A server, not ready yet; its command line begins with `prefix`."""
    port = free_port()
    variables = {
        "MLFLOW_MODEL_PATH": str(model),
        "MLFLOW_MODELS_PORT": str(port),
        "MLFLOW_MODELS_WORKERS": "2",
        **variables,
    }
    folder.mkdir(exist_ok=True)
    output, errors = folder / "output", folder / "errors"
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "mlflow_model_server.main", "serve"],
            env=_environment(**variables),
            stdout=out,
            stderr=err,
        )
    try:
        yield Server(process, port, output, errors)
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def ready(
    model: Path, folder: Path, prefix: tuple[str, ...] = (), /, **variables: str
) -> Iterator[Server]:
    with started(model, folder, prefix, **variables) as server:
        _until(lambda: _is_ready(server), "it never was ready")
        yield server


def _is_ready(server: Server) -> bool:
    assert server.process.poll() is None, server.log()
    return server.status() == 200


def _until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def _saved(folder: Path, script: str = SCRIPTED, **options: Any) -> Path:
    (folder / "scripted.py").write_text(script)
    mlflow.pyfunc.save_model(
        folder / "model",
        python_model=folder / "scripted.py",
        pip_requirements=options.pop("pip_requirements", ["mlflow==1.2.3", "pandas>=1 # why"]),
        signature=options.pop("signature", infer_signature(pd.DataFrame({"do": ["x"]}), ["x"])),
        **options,
    )
    return folder / "model"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tmp_path_factory.mktemp("scripted"))


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with ready(model, folder, MLFLOW_MODELS_MAX_REQUEST_BYTES="100000") as one:
        yield one


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    flowers, kinds = load_iris(return_X_y=True, as_frame=True)
    trained = LogisticRegression(max_iter=500).fit(flowers, kinds)
    path = tmp_path_factory.mktemp("iris") / "model"
    mlflow.sklearn.save_model(
        trained,
        path,
        signature=infer_signature(flowers, kinds),
        pip_requirements=["scikit-learn"],
    )
    return path, flowers


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


FORMS: dict[str, Callable[[pd.DataFrame], tuple[str, str | bytes]]] = {
    "split": lambda f: ("application/json", json.dumps({"dataframe_split": f.to_dict("split")})),
    "records": lambda f: (
        "application/json; charset=utf-8",
        json.dumps({"dataframe_records": f.to_dict("records")}),
    ),
    "inputs": lambda f: ("application/json", json.dumps({"inputs": f.to_dict("list")})),
    "instances": lambda f: ("application/json", json.dumps({"instances": f.to_dict("records")})),
    "csv": lambda f: ("text/csv", f.to_csv(index=False)),
    "parquet": lambda f: ("application/vnd.apache.parquet", _parquet(f)),
}


def test_every_form_of_input(iris: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    path, flowers = iris
    expected = mlflow.pyfunc.load_model(str(path)).predict(flowers).tolist()
    with ready(path, tmp_path) as server:
        for name, form in FORMS.items():
            kind, body = form(flowers)
            got = requests.post(server.url(), data=body, headers={"content-type": kind}, timeout=30)
            assert got.status_code == 200, (name, got.text)
            assert got.headers["content-type"] == "application/json"
            assert got.json() == {"predictions": expected}, name


NUMBERS = """
import math
import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

MIXED = np.array([0.5, np.nan, np.inf, -np.inf])
SHAPES = {
    "array": lambda: MIXED,
    "single precision": lambda: MIXED.astype("float32"),
    "matrix": lambda: MIXED.reshape(2, 2),
    "objects": lambda: MIXED.astype(object),
    "series": lambda: pd.Series(MIXED, name="x"),
    "frame": lambda: pd.DataFrame({"x": MIXED, "y": ["a", "b", "c", "d"]}),
    "missing": lambda: pd.DataFrame({"x": pd.Series([1, None], dtype="float64")}),
    "list": lambda: MIXED.tolist(),
    "scalars": lambda: [np.float32(one) for one in MIXED] + [np.float64("nan")],
    "dict": lambda: {"x": MIXED, "y": math.inf},
    "nested": lambda: {"a": [{"b": (MIXED[:2], {"c": [-math.inf]})}], "d": "NaN, -Infinity"},
    "names": lambda: {math.nan: 1, "Infinity": math.inf},
    "number": lambda: math.nan,
    "finite": lambda: {"NaN": [0.1, 1e-323, 2**70, True, None, "\u65e5 \\ud800"]},
}

class Numbers(PythonModel):
    def predict(self, context, model_input, params=None):
        return SHAPES[model_input["do"][0]]()

set_model(Numbers())
"""
MIXED = [0.5, None, None, None]
SHAPES: dict[str, object] = {
    "array": MIXED,
    "single precision": MIXED,
    "matrix": [[0.5, None], [None, None]],
    "objects": MIXED,
    "series": [{"x": one} for one in MIXED],
    "frame": [{"x": x, "y": y} for x, y in zip(MIXED, "abcd", strict=True)],
    "missing": [{"x": 1.0}, {"x": None}],
    "list": MIXED,
    "scalars": [*MIXED, None],
    "dict": {"x": MIXED, "y": None},
    "nested": {"a": [{"b": [[0.5, None], {"c": [None]}]}], "d": "NaN, -Infinity"},
    "names": {"NaN": 1, "Infinity": None},
    "number": None,
    "finite": {"NaN": [0.1, 1e-323, 2**70, True, None, "\u65e5 \ud800"]},
}


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("numbers")
    listed = ColSpec(Array("double"), "list", required=False)
    parameters = ParamSchema([ParamSpec("speed", "double", 0.5)])
    signature = ModelSignature(Schema([ColSpec("string", "do"), listed]), params=parameters)
    path = _saved(folder, NUMBERS, signature=signature)
    with ready(path, folder / "log", MLFLOW_MODELS_WORKERS="1") as one:
        yield one


def _no_constant(word: str) -> None:
    pytest.fail(f"{word} is no JSON")


@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_that_json_has_not(numbers: Server, shape: str) -> None:
    got = numbers.invoke(shape)
    assert got.status_code == 200, got.text
    assert got.headers["content-type"] == "application/json"
    found = json.loads(got.text, parse_constant=_no_constant)
    assert found == {"predictions": SHAPES[shape]}


WORKS = """
import getpass, logging, os
from pathlib import Path
import mlflow
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

@mlflow.trace
def traced():
    return str(mlflow.get_current_active_span() is not None)

def logged(path):
    handler = logging.FileHandler(path)
    handler.emit(logging.makeLogRecord({"msg": "logged"}))
    handler.close()
    return Path(path).read_text()

WORKS = {
    "folder": os.getcwd,
    "log": lambda: logged("predictions.log"),
    "log at home": lambda: logged(Path.home() / "home.log"),
    "home": lambda: str(Path("~").expanduser()),
    "user": getpass.getuser,
    "trace": traced,
}

class Works(PythonModel):
    def load_context(self, context):
        if os.environ.get("TEST_URI"):
            mlflow.set_tracking_uri(os.environ["TEST_URI"])
        for work in WORKS.values():
            work()

    def predict(self, context, model_input, params=None):
        return [WORKS[word]() for word in model_input["do"]]

set_model(Works())
"""


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tmp_path_factory.mktemp("works"), WORKS, pip_requirements=["mlflow"])


@pytest.fixture(scope="module")
def confined() -> tuple[str, ...]:
    """Begins a command line that runs as a uid which nobody knows, where nothing can be written."""
    unset = [f"--unset={name}" for name in ("LOGNAME", "USER", "LNAME", "USERNAME")]
    begin = ("env", *unset, "--chdir=/proc", "unshare", "--user", "--map-user=12345")
    tried = subprocess.run([*begin, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"this machine makes no user namespace: {tried.stderr}")
    return begin


def test_models_that_write_where_nothing_can_be_written(
    works: Path, tmp_path: Path, confined: tuple[str, ...]
) -> None:
    """They get a folder, a home and a name; traces that nobody asked for aren't kept."""
    place = str(tmp_path / "tmp")
    Path(place).mkdir()
    variables = {"TMPDIR": place, "HOME": "/none", "MLFLOW_MODELS_WORKERS": "1"}
    with ready(works, tmp_path / "log", confined, **variables) as server:
        words = ("folder", "log", "log at home", "home", "user", "trace")
        # Once each while the model was loaded.
        expected = [place, "logged\nlogged\n", "logged\nlogged\n", place, "12345", "False"]
        assert server.invoke(*words).json() == {"predictions": expected}
    assert {path.name for path in Path(place).iterdir()} == {"predictions.log", "home.log"}


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "TEST_URI"])
def test_models_trace_where_somebody_says_where_to(works: Path, tmp_path: Path, name: str) -> None:
    """By a variable, or in the model's own code."""
    variables = {
        name: f"sqlite:///{tmp_path}/traces.db",
        "MLFLOW_MODELS_WORKERS": "1",
        "HOME": str(tmp_path),
    }
    prefix = ("env", f"--chdir={tmp_path}")
    with ready(works, tmp_path / "log", prefix, **variables) as server:
        assert server.invoke("trace").json() == {"predictions": ["True"]}


TYPES = ["application/json", "text/csv", "application/vnd.apache.parquet"]
REFUSED: dict[str, tuple[str | None, dict[str, Any], list[str]]] = {
    "another content type": (f"text/{MARKER}", {}, [*TYPES, "Got '…'"]),
    "no content type": (None, {}, TYPES),
    "a type of a list": (
        "application/json",
        {"dataframe_records": [{"do": "list", "list": [MARKER]}]},
        ["column list", "Array(double)", "MlflowException"],
    ),
    "a parameter": (
        "application/json",
        {"dataframe_records": [{"do": "list"}], "params": {"speed": MARKER}},
        ["'speed': double (default: 0.5)"],
    ),
    "the model's own fault": (
        "application/json",
        {"dataframe_records": [{"do": MARKER}]},
        ["unexpected error", "the server's log says where, for request "],
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_say_what_would_be_right(numbers: Server, what: str) -> None:
    """Without what the client has sent."""
    content_type, body, said = REFUSED[what]
    headers = {"content-type": content_type} if content_type else {}
    got = requests.post(numbers.url(), json.dumps(body).encode(), headers=headers, timeout=30)
    assert 400 <= got.status_code < 500
    missing = [words for words in said if words not in got.text]
    assert not missing, got.text
    assert MARKER not in got.text


def test_protocol(server: Server) -> None:
    for path in ("/ping", "/health"):
        got = requests.get(server.url(path), timeout=10)
        assert (got.status_code, got.text) == (200, "\n")
        assert got.headers["content-type"] == "application/json"
    assert requests.get(server.url("/version"), timeout=10).text == mlflow.__version__
    got = requests.get(server.url("/nothing"), timeout=10)
    assert (got.status_code, got.json()) == (404, {"detail": "Not Found"})
    got = requests.get(server.url(), timeout=10)
    assert (got.status_code, got.headers["allow"]) == (405, "OPTIONS, POST")
    assert server.invoke("threads").json() == {"predictions": ["1"]}


@pytest.mark.parametrize("path", ["/ping", "/health", "/version", "/metrics"])
def test_head_and_options(server: Server, path: str) -> None:
    asked = requests.get(server.url(path), timeout=10)
    got = requests.head(server.url(path), timeout=10)
    assert (got.status_code, got.content) == (200, b"")
    assert got.headers["content-type"] == asked.headers["content-type"]
    assert path == "/metrics" or got.headers["content-length"] == str(len(asked.content))
    got = requests.options(server.url(path), timeout=10)
    assert (got.status_code, got.content) == (200, b"")
    assert got.headers["allow"] == "GET, HEAD, OPTIONS"
    for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE"):
        got = requests.request(method, server.url(path), timeout=10)
        assert (got.status_code, got.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_methods_of_invocations(server: Server) -> None:
    got = requests.options(server.url(), timeout=10)
    assert (got.status_code, got.headers["allow"]) == (200, "OPTIONS, POST")
    for method in ("GET", "HEAD", "PUT"):
        got = requests.request(method, server.url(), data=b"a", timeout=10)
        assert (got.status_code, got.headers["allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/ping/", "/", "//ping"])
def test_nothing_else_is_served(server: Server, path: str, method: str) -> None:
    assert requests.request(method, server.url(path), timeout=10).status_code == 404


def test_options_of_the_server(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


def test_malformed_requests_are_counted_and_told_of_once_a_second(
    model: Path, tmp_path: Path
) -> None:
    with ready(model, tmp_path, MLFLOW_MODELS_WORKERS="1") as server:
        for _ in range(1000):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(b"what is this?\r\n\r\n")
                assert connection.recv(4096).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        text = requests.get(server.url("/metrics"), timeout=10).text
        assert 'mlflow_model_refused_total{status="400"} 1000.0' in text
        lines = server.errors.read_text().splitlines()
        assert 0 < len(lines) < 60
        assert all("refused: the request is malformed (" in line for line in lines)
        assert "what" not in server.log()


def test_clients_that_offer_http_2(server: Server) -> None:
    body = json.dumps({"dataframe_split": _frame(("a",))}).encode()
    offer = (
        "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n"
        f"content-length: {len(body)}"
    )
    for _ in range(3):
        with _sent(server, offer, body) as connection:
            answer, text = _received(connection)
            assert (answer.status, json.loads(text)) == (200, {"predictions": ["a"]})


def test_the_front_stays_small(server: Server) -> None:
    front = server.front()
    maps = {one.path for one in front.memory_maps()}
    assert not [path for path in maps if "numpy" in path or "pandas" in path]
    assert {one.status for one in front.net_connections("tcp") if one.laddr.port == server.port}


def test_health_program(server: Server) -> None:
    program = PACKAGE / "bin" / "mlflow-model-health"
    for port, code, said in ((server.port, 0, "healthy: "), (free_port(), 1, "unhealthy: ")):
        environment = _environment(MLFLOW_MODELS_PORT=str(port))
        asked = subprocess.run(
            [sys.executable, program], env=environment, capture_output=True, text=True, check=False
        )
        assert (asked.returncode, asked.stdout.startswith(said)) == (code, True), asked


def test_service_links_of_kubernetes(model: Path, tmp_path: Path) -> None:
    """The port that counts is the one that is set where no link is."""
    links = {"MLFLOW_PORT": "tcp://10.0.0.1:80", "MLFLOW_MODELS_WORKERS_PORT": "tcp://10.0.0.1:8"}
    with ready(model, tmp_path, **links) as server:
        assert server.invoke("a").json() == {"predictions": ["a"]}
    program = PACKAGE / "bin" / "mlflow-model-health"
    environment = _environment(MLFLOW_MODELS_PORT="tcp://10.0.0.1:80")
    asked = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, check=False
    )
    assert "port 8080, /ping: " in asked.stdout
    settled = subprocess.run(
        [sys.executable, PACKAGE / "bin" / "mlflow-model-server"],
        env={**environment, "MLFLOW_MODEL_PATH": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "there is no model at" in settled.stderr


def _ping(host: str, port: int) -> int | None:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    with contextlib.closing(connection), contextlib.suppress(ConnectionRefusedError):
        connection.request("GET", "/ping")
        return connection.getresponse().status
    return None


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 on its loopback")
@pytest.mark.parametrize(
    ("host", "there"), [("", (200, 200)), ("::", (None, 200)), ("0.0.0.0", (200, None))]
)
def test_ipv4_and_ipv6(
    model: Path, tmp_path: Path, host: str, there: tuple[int | None, int | None]
) -> None:
    """Its health check asks where it listens, and its end loses nobody."""
    variables = {"MLFLOW_MODELS_HOST": host, "MLFLOW_MODELS_WORKERS": "1"}
    with started(model, tmp_path, **variables) as server:
        asked = "::1" if host == "::" else "127.0.0.1"
        _until(lambda: _ping(asked, server.port) == 200, "it never was ready")
        assert (_ping("127.0.0.1", server.port), _ping("::1", server.port)) == there
        checked = subprocess.run(
            [sys.executable, PACKAGE / "bin" / "mlflow-model-health"],
            env=_environment(MLFLOW_MODELS_HOST=host, MLFLOW_MODELS_PORT=str(server.port)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (checked.returncode, checked.stdout[:8]) == (0, "healthy:"), checked
        server.process.terminate()
        assert server.process.wait(20) == 0
        assert server.errors.read_text() == ""


MALFORMED: dict[str, tuple[dict[str, str], bytes, int]] = {
    "no content type": ({}, b'{"inputs": ["a"]}', 415),
    "unknown content type": ({"content-type": "text/html"}, b"a", 415),
    "unknown charset": ({"content-type": "text/csv; charset=latin-1"}, b"a", 415),
    "empty": (JSON, b"", 400),
    "a list": (JSON, b"[1]", 400),
    "a number": (JSON, b"1", 400),
    "not UTF-8": (JSON, b'{"inputs": "\xff"}', 400),
    "no JSON": (JSON, b'{"inputs": ', 400),
    "CSV that is not UTF-8": ({"content-type": "text/csv"}, b"\xff", 400),
    "empty CSV": ({"content-type": "text/csv"}, b"", 400),
    "no Parquet": ({"content-type": "application/vnd.apache.parquet"}, b"x", 400),
    "unknown field": (JSON, b'{"other": 1}', 400),
    "null": (JSON, b'{"dataframe_split": null}', 400),
    "ragged": (JSON, b'{"dataframe_split": {"columns": ["do"], "data": [[1, 2]]}}', 400),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_are_the_clients_fault(server: Server, name: str) -> None:
    headers, body, status = MALFORMED[name]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/invocations", body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == status, text
    assert len(text) < 800
    assert "Traceback" not in text
    connection.close()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["raise:" + MARKER], 400),
        (["refuse:" + MARKER], 500),
        (["sys.exit:" + MARKER], 500),
        (["panic:" + MARKER], 500),
        (["cancel:" + MARKER], 500),
        (["deep:" + MARKER], 500),
        (["unjsonable:" + MARKER], 500),
    ],
)
def test_faults_of_the_model_repeat_nothing(server: Server, words: list[str], status: int) -> None:
    got = server.invoke(*words)
    assert got.status_code == status, got.text
    assert set(got.json()) >= {"error_code", "message"}
    assert "stack_trace" not in got.json()
    assert MARKER not in got.text + server.log_after(got)
    assert "Traceback" not in server.log()
    if status == 400:
        where = f"request {got.headers['x-request-id']}: ValueError at "
        assert where in server.errors.read_text()


def test_refusals_by_the_schema_repeat_nothing(server: Server) -> None:
    for body in (
        {"dataframe_split": {"columns": ["do", "more"], "data": [[1, MARKER]]}},
        {"dataframe_split": {"columns": ["other"], "data": [[MARKER]]}},
        {"dataframe_records": [{MARKER: 1}]},
        {"inputs": {MARKER: MARKER}},
        {"instances": [[MARKER, 1], [MARKER]]},
        {"dataframe_split": {"columns": ["do"], "data": [["a"]]}, "params": {MARKER: 1}},
    ):
        got = requests.post(server.url(), json=body, timeout=30)
        assert MARKER not in got.text + server.log_after(got), got.text
    bad = f'{{"inputs": "{MARKER}'.encode() + b"\xff"
    for text in (bad, bad[:-1]):
        got = requests.post(server.url(), data=text, headers=JSON, timeout=30)
        assert got.status_code == 400
        assert MARKER not in got.text + server.log_after(got), got.text
    missing = requests.post(server.url(), json={"inputs": {"other": ["x"]}}, timeout=30)
    assert "Model is missing inputs ['do']" in missing.json()["message"]


def test_too_large(server: Server) -> None:
    body = b" " * 100_001
    whole = requests.post(server.url(), data=body, headers=JSON, timeout=30)
    pieces = requests.post(
        server.url(), data=iter([body[:60_000], body[60_000:]]), headers=JSON, timeout=30
    )
    for got in (whole, pieces):
        assert got.status_code == 413
        assert got.json()["message"] == "the request is larger than 100000 bytes"
    fitting = json.dumps({"dataframe_split": _frame(("a",))}).encode().ljust(100_000)
    got = requests.post(server.url(), data=fitting, headers=JSON, timeout=30)
    assert got.json() == {"predictions": ["a"]}


def _sent(server: Server, head: str, body: bytes = b"") -> socket.socket:
    """A connection by which a request to /invocations was sent, or some of it."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    content = "host: x\r\ncontent-type: application/json"
    connection.sendall(f"POST /invocations HTTP/1.1\r\n{content}\r\n{head}\r\n\r\n".encode() + body)
    return connection


def _received(connection: socket.socket) -> tuple[http.client.HTTPResponse, bytes]:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer, answer.read()


def test_a_refused_upload_is_not_cut_off(server: Server) -> None:
    """Its client has its answer at once, and the connection for all that it still sends."""
    connection = _sent(server, "content-length: 8000000", b" " * 1000)
    answer, _ = _received(connection)
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    for _ in range(8):
        connection.sendall(b" " * 900_000)
    connection.sendall(b" " * (8_000_000 - 1000 - 8 * 900_000))
    assert connection.recv(1) == b""
    connection.close()
    other = requests.post(server.url(), data=b"a", timeout=30)
    assert (other.status_code, other.headers["connection"]) == (415, "close")
    assert "connection" not in requests.get(server.url("/ping"), timeout=30).headers


def test_access_log(server: Server) -> None:
    identity = server.invoke("a").headers["x-request-id"]
    requests.post(server.url(f"/invocations?{MARKER}"), data=MARKER, headers=JSON, timeout=30)
    requests.get(server.url(f"/{MARKER}"), timeout=10)
    requests.get(server.url("/ping"), timeout=10)
    last = requests.get(server.url("/version"), timeout=10).headers["x-request-id"]
    _until(lambda: last in server.output.read_text(), "it wasn't logged")
    lines = server.output.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if identity in line)
    lines = lines[first:]
    assert len(lines) == 4
    form = (
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z POST /invocations 200 in=\d+ out=\d+"
        rf" ms=\d+\.\d worker=[12] request={identity}"
    )
    assert re.fullmatch(form, lines[0])
    assert " POST /invocations 400 " in lines[1]
    assert " GET other 404 " in lines[2]
    assert MARKER not in server.log()


UNSENT = "mlflow_model_response_bytes_unsent"


def _metric(server: Server, name: str, **labels: str) -> float:
    text = requests.get(server.url("/metrics"), timeout=10).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_metrics(server: Server) -> None:
    asked = {"path": "/invocations", "status": "200"}
    before = _metric(server, "mlflow_model_requests_total", **asked)
    server.invoke("a")
    server.invoke("b")
    assert _metric(server, "mlflow_model_requests_total", **asked) == before + 2
    assert _metric(server, "mlflow_model_requests_in_flight") == 1
    assert _metric(server, "mlflow_model_workers_ready") == 2
    assert _metric(server, "mlflow_model_server_info", mlflow_version=mlflow.__version__) == 1
    buckets = "mlflow_model_request_duration_seconds_bucket"
    assert _metric(server, buckets, path="/invocations", le="60.0") >= before + 2


class Load:
    """Clients that ask one thing after another, and keep what went wrong."""

    def __init__(self, server: Server, clients: int = 8, body: str = "sleep:0.02") -> None:
        self._server = server
        self._body = json.dumps({"dataframe_split": _frame((body,))})
        self._stop = threading.Event()
        self.answered = 0
        self.faults: list[str] = []
        self.refused = 0
        self._threads = [threading.Thread(target=self._client) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _client(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=30)
        while not self._stop.is_set():
            try:
                if connection.sock is None:
                    connection.connect()
            except ConnectionRefusedError:
                self.refused += 1
                return
            try:
                connection.request("POST", "/invocations", self._body, JSON)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.faults.append(repr(error))
                return
            self.answered += 1
            if answer.status != 200:
                self.faults.append(f"{answer.status} {text!r}")
        connection.close()


def test_workers_that_are_killed_fail_no_request(server: Server) -> None:
    restarts = _metric(server, "mlflow_model_worker_restarts_total")
    with Load(server) as load:
        for _ in range(3):
            _until(lambda: len(server.workers()) == 2, "it wasn't replaced")
            time.sleep(0.3)
            victim = server.workers()[0]
            victim.kill()
            victim.wait(10)
        enough = load.answered + 50
        _until(lambda: load.answered > enough, "it answers no more")
    assert not load.faults
    _until(lambda: _metric(server, "mlflow_model_workers_ready") == 2, "one is missing")
    assert _metric(server, "mlflow_model_worker_restarts_total") == restarts + 3
    assert server.errors.read_text().count("was killed by SIGKILL: another one is started") >= 3
    pids = {server.invoke("pid").json()["predictions"][0] for _ in range(20)}
    assert pids <= {str(one.pid) for one in server.workers()}


def test_a_poisonous_request_is_given_up(server: Server) -> None:
    """It takes three workers with it, and no other request."""
    for _ in range(2):
        with Load(server, 4) as load:
            got = server.invoke("exit")
        assert got.status_code == 500
        assert got.json()["message"] == "the worker died while it answered this request"
        assert not load.faults
    assert "ended with exit code 9: another one is started" in server.errors.read_text()
    assert server.invoke("a").status_code == 200


def _served_while_stopped(server: Server, number: signal.Signals) -> Load:
    slow: list[requests.Response] = []
    asked = threading.Thread(target=lambda: slow.append(server.invoke("sleep:1.5")))
    with Load(server) as load:
        _until(lambda: load.answered > 50, "it doesn't answer")
        asked.start()
        time.sleep(0.2)
        server.process.send_signal(number)
        time.sleep(0.1)
        server.process.send_signal(number)
        assert server.status() == 503
        asked.join()
        assert server.process.wait(10) == 0
    assert [one.status_code for one in slow] == [200]
    assert slow[0].headers["connection"] == "close"
    return load


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_finishes_what_is_in_flight(
    model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with ready(model, tmp_path) as server:
        idle = socket.create_connection(("127.0.0.1", server.port))
        load = _served_while_stopped(server, number)
        assert idle.recv(1) == b""
        idle.close()
        assert not load.faults
        assert load.refused == 8
        assert server.errors.read_text() == ""


def test_stop_leaves_clients_that_stall(model: Path, tmp_path: Path) -> None:
    """One sends half a request, one reads no answer; a third is still answered meanwhile."""
    slow: list[requests.Response] = []
    with ready(model, tmp_path, MLFLOW_STOP_WAIT="6") as server:
        asked = threading.Thread(target=lambda: slow.append(server.invoke("sleep:4.5")))
        half = _sent(server, "content-length: 1000", b"half")
        body = json.dumps({"dataframe_split": _frame(("large:50000000",))}).encode()
        unread = _sent(server, f"content-length: {len(body)}", body)
        _until(lambda: _metric(server, UNSENT) > 0, "it wasn't answered")
        asked.start()
        _until(lambda: _metric(server, "mlflow_model_requests_in_flight") == 3, "it isn't asked")
        server.process.terminate()
        assert server.process.wait(30) == 0
        asked.join()
        assert [one.status_code for one in slow] == [200]
        assert server.errors.read_text() == ""
        for one in (half, unread):
            one.close()


def test_a_request_that_never_ends(model: Path, tmp_path: Path) -> None:
    with ready(model, tmp_path, MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT="1") as server:
        connection = _sent(server, "content-length: 1000", b"half")
        answer, text = _received(connection)
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert json.loads(text)["message"] == "the request wasn't sent in 1 seconds"
        assert connection.recv(1) == b""
        connection.close()


def test_an_answer_that_nobody_takes(model: Path, tmp_path: Path) -> None:
    with ready(model, tmp_path, MLFLOW_MODELS_SEND_TIMEOUT="2") as server:
        body = json.dumps({"dataframe_split": _frame(("large:20000000",))}).encode()
        with _sent(server, f"content-length: {len(body)}", body) as unread:
            _until(lambda: _metric(server, UNSENT) > 0, "it wasn't answered")
            port = unread.getsockname()[1]
            assert port in _clients(server)
            _until(lambda: port not in _clients(server), "it is kept for ever")


def _clients(server: Server) -> set[int]:
    """Ports to which the front has a connection."""
    connections = server.front().net_connections("tcp")
    return {one.raddr.port for one in connections if one.status == psutil.CONN_ESTABLISHED}


def test_a_worker_that_has_forked_is_replaced(model: Path, tmp_path: Path) -> None:
    """The process that it started holds its pipes and sockets open."""
    with ready(model, tmp_path, TEST_LOAD="fork", MLFLOW_MODELS_WORKERS="1") as server:
        server.workers()[0].kill()
        assert server.invoke("a").json() == {"predictions": ["a"]}
        server.process.terminate()
        assert server.process.wait(20) == 0
        said = server.errors.read_text().splitlines()
    assert len(said) == 1
    assert said[0].endswith("worker 1 was killed by SIGKILL: another one is started")


def test_a_worker_that_can_answer_no_more_is_replaced(model: Path, tmp_path: Path) -> None:
    with ready(model, tmp_path, TEST_LOAD="fork", MLFLOW_MODELS_WORKERS="1") as server:
        assert server.invoke("mute").status_code == 200
        assert server.invoke("a").json() == {"predictions": ["a"]}
        ended, replaced = server.errors.read_text().splitlines()
    assert "a thread that answers requests has ended: TypeError at " in ended
    assert replaced.endswith("another one is started")


def test_ready_only_when_the_model_is_loaded(model: Path, tmp_path: Path) -> None:
    with started(model, tmp_path, TEST_LOAD="sleep", MLFLOW_MODELS_WORKERS="1") as server:
        _until(lambda: server.status() is not None, "it doesn't listen")
        assert server.status() == 503
        early = server.invoke("a")
        assert early.status_code == 503
        assert early.json()["message"] == "the model is still being loaded"
        assert early.headers["connection"] == "close"
        _until(lambda: _is_ready(server), "it never was ready")
        assert server.invoke("a").status_code == 200
        # One worker: requests wait for the next.
        [worker] = server.workers()
        worker.kill()
        assert server.invoke("b").json() == {"predictions": ["b"]}
        server.front().kill()
        assert server.process.wait(10) == 1
        assert "answers HTTP was killed by SIGKILL: the server ends" in server.errors.read_text()
        assert not psutil.pid_exists(worker.pid)


def _ends(server: Server) -> str:
    assert server.process.wait(40) == 1, server.log()
    lines = server.errors.read_text().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_model_that_raises(model: Path, tmp_path: Path) -> None:
    with started(model, tmp_path, TEST_LOAD="raise") as server:
        said = _ends(server)
    assert "can't be loaded: ValueError: there is no such file of weights" in said


def test_model_that_panics(model: Path, tmp_path: Path) -> None:
    with started(model, tmp_path, TEST_LOAD="panic") as server:
        assert "can't be loaded: Panic: it panicked" in _ends(server)


@pytest.mark.parametrize("left", ["thread", "child"])
def test_model_that_raises_and_leaves_something(model: Path, tmp_path: Path, left: str) -> None:
    with started(model, tmp_path, TEST_LOAD=f"{left} and raise", MLFLOW_STOP_WAIT="1") as server:
        assert "can't be loaded: ValueError: it raised" in _ends(server)


@pytest.mark.parametrize(
    ("left", "code", "said"),
    [
        ("thread", 0, "the model loads; it has no input example to try"),
        ("child", 0, "the model loads; it has no input example to try"),
        ("thread and raise", 1, "can't be loaded: ValueError: it raised"),
        ("hang", 1, "the model does not load and answer within 4 seconds"),
        ("kill", 1, "the model ends the process that loads it: SIGKILL"),
    ],
)
def test_check_of_a_model_that_goes_wrong_or_leaves_something(
    model: Path, tmp_path: Path, left: str, code: int, said: str
) -> None:
    environment = _environment(
        MLFLOW_MODEL_PATH=str(model), MLFLOW_MODEL_REQUIREMENTS="warn", TEST_LOAD=left
    )
    if left == "hang":
        environment |= {
            "MLFLOW_MODELS_LOAD_TIMEOUT": "3",
            "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "1",
        }
    output = tmp_path / "output"
    with output.open("wb") as file:
        checked = subprocess.Popen(
            [sys.executable, "-m", "mlflow_model_server.main", "check"],
            env=environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            assert checked.wait(60) == code
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(checked.pid, signal.SIGKILL)
            checked.wait()
    assert said in output.read_text()


def test_worker_killed_while_it_loads(model: Path, tmp_path: Path) -> None:
    with started(model, tmp_path, TEST_LOAD="kill") as server:
        assert re.search(
            r"worker \d was killed by SIGKILL while it loaded the model", _ends(server)
        )


def test_replacement_killed_while_it_loads(model: Path, tmp_path: Path) -> None:
    """The other worker goes on, and so does the server."""
    variables = {"TEST_LOAD": "fine then fine then kill then fine"}
    with ready(model, tmp_path, TEST_COUNT=str(tmp_path / "count"), **variables) as server:
        _until(lambda: len(server.workers()) == 2, "there is one worker only")
        server.workers()[0].kill()
        _until(lambda: _metric(server, "mlflow_model_worker_restarts_total") == 2, "it gave up")
        assert server.invoke("a").json() == {"predictions": ["a"]}
        said = server.errors.read_text().splitlines()
    assert len([line for line in said if line.endswith("another one is started")]) == 2, said


def test_replacement_that_cannot_load(model: Path, tmp_path: Path) -> None:
    variables = {"TEST_LOAD": "fine then raise", "TEST_COUNT": str(tmp_path / "count")}
    with ready(model, tmp_path, MLFLOW_MODELS_WORKERS="1", **variables) as server:
        server.workers()[0].kill()
        got = server.invoke("a")
        assert got.status_code == 503
        assert server.process.wait(20) == 1
        first, second = server.errors.read_text().splitlines()
        assert "worker 1 was killed by SIGKILL: another one is started" in first
        assert "can't be loaded: ValueError" in second


def test_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    (tmp_path / "outer" / "inner" / "MLmodel").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "MLmodel").write_text("flavors: {onnx: {}}\n")
    for name, message in (
        ("missing", "there is no model at"),
        ("empty", "is empty"),
        ("outer", "there is one in"),
        ("other", "has no flavor python_function"),
    ):
        with started(tmp_path / name, tmp_path / f"log-{name}") as server:
            assert message in _ends(server)


def test_unmet_requirements(tmp_path: Path) -> None:
    wanted = ["pandas==0.1", "no-such-thing>=2", "absent; python_version < '3'", "--no-index"]
    path = _saved(tmp_path, pip_requirements=wanted)
    described = (path / "MLmodel").read_text()
    (path / "MLmodel").write_text(
        re.sub(r"python_version: \S+", "python_version: 3.8.1", described)
    )
    with started(path, tmp_path / "refused") as server:
        said = _ends(server)
    assert "Python 3.8 (is 3." in said
    assert f"pandas==0.1 (is {pd.__version__})" in said
    assert "no-such-thing>=2 (is not installed)" in said
    assert "absent" not in said
    with ready(
        path,
        tmp_path / "warned",
        MLFLOW_MODEL_REQUIREMENTS="warn",
        MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT="1",
    ) as server:
        assert server.errors.read_text().splitlines()[0].count("doesn't meet") == 1
        late = server.invoke("sleep:1.5")
        assert late.status_code == 504
        assert late.json()["message"] == "the prediction took longer than 1 s"
        workers = server.workers()
        [manager] = psutil.Process(server.process.pid).children()
        manager.kill()
        assert server.process.wait(10) == 137
        assert not [one for one in workers if one.is_running()]


def test_workers_that_keep_dying(model: Path, tmp_path: Path) -> None:
    with ready(model, tmp_path, MLFLOW_MODELS_WORKERS="1") as server:
        for _ in range(5):
            _until(server.workers, "it wasn't replaced")
            [worker] = server.workers()
            _until(lambda: _metric(server, "mlflow_model_workers_ready") == 1, "it isn't ready")
            worker.kill()
            worker.wait(10)
        assert server.process.wait(10) == 1
        said = server.errors.read_text().splitlines()
    assert len(said) == 5
    assert said[-1].endswith("was killed by SIGKILL, the 5th in a row that answered no request")


@pytest.mark.parametrize(
    ("words", "variables", "code", "message"),
    [
        (["train"], {}, 2, "'train' is no argument of this image"),
        (["--help"], {}, 0, "MLFLOW_MODELS_WORKERS"),
        ([], {"MLFLOW_MODELS_WORKERS": "many"}, 1, "it takes an integer from 1 to 64"),
        ([], {"MLFLOW_DRAIN_WAIT": "-1"}, 1, "it takes a number of seconds"),
    ],
)
def test_arguments(words: list[str], variables: dict[str, str], code: int, message: str) -> None:
    ended = subprocess.run(
        [sys.executable, PACKAGE / "bin" / "mlflow-model-server", *words],
        env=_environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code
    assert message in ended.stdout + ended.stderr
    assert code == 0 or ended.stderr.count("\n") == 1


def test_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with started(tmp_path, tmp_path / "log", MLFLOW_MODELS_PORT=port) as server:
            assert f"port {port} can't be listened on" in _ends(server)
