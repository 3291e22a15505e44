"""The entry point as processes: supervising, health, and a whole server."""

from __future__ import annotations

import http.server
import os
import pty
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from anyio.pytest_plugin import FreePortFactory
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow_entrypoint import health
from mlflow_entrypoint.health import Address
from mlflow_entrypoint.processes import announced
from older_databases import make_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

free_port = FreePortFactory(socket.SOCK_STREAM)
PACKAGE = Path(__file__).parents[1]
SUPERVISE = """
import os, signal, subprocess, sys, time
from mlflow_entrypoint.supervisor import supervise
def run():
{body}
sys.exit(supervise(run, server={server}, stop_wait={wait}))
"""


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PACKAGE)}


@contextmanager
def supervised(
    body: str, *, server: bool = True, wait: float = 5
) -> Iterator[subprocess.Popen[str]]:
    """A supervisor whose child runs `body`; it says `ready` when it can be disturbed."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    program = SUPERVISE.format(body=indented, server=server, wait=wait)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=_environment()
    ) as process:
        yield process
        process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize(
    ("body", "server", "code"),
    [
        ("return 7", False, 7),
        ("return 0", False, 0),
        ("return 7", True, 7),
        ("return 0", True, 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", False, 137),
        ("os.kill(os.getpid(), signal.SIGKILL)", True, 137),
        ("raise SystemExit(3)", True, 3),
    ],
)
def test_exit_codes(body: str, server: bool, code: int) -> None:
    with supervised(body, server=server) as process:
        assert process.wait(10) == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1])
def test_signals_are_handed_on(number: signal.Signals) -> None:
    body = f"""
signal.signal({number.value}, lambda *_: os._exit(0 if {number.value} != 10 else 5))
print("ready", flush=True)
time.sleep(30)
"""
    with supervised(body) as process:
        assert _line(process) == "ready"
        process.send_signal(number)
        assert process.wait(10) == (5 if number == signal.SIGUSR1 else 0)


def test_hangup_does_not_stop_a_server() -> None:
    """It replaces uvicorn's workers: nothing to be killed for, however long it takes."""
    body = """
signal.signal(signal.SIGHUP, lambda *_: print("heard", flush=True))
print("ready", flush=True)
while True: time.sleep(30)
"""
    with supervised(body, wait=0.2) as process:
        assert _line(process) == "ready"
        process.send_signal(signal.SIGHUP)
        assert _line(process) == "heard"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143


def test_server_without_handlers_ends_by_the_signal() -> None:
    with supervised("print('ready', flush=True); time.sleep(30)") as process:
        assert _line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143


def test_server_that_does_not_stop_is_killed() -> None:
    body = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(30)
"""
    with supervised(body, wait=0.5) as process:
        assert _line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143


def test_server_that_is_stopped_goes_on() -> None:
    """The first process resumes it: nobody else in a container would."""
    body = "os.kill(os.getpid(), signal.SIGSTOP); print('went on', flush=True); sys.exit(3)"
    with supervised(body) as process:
        assert _line(process) == "went on"
        assert process.wait(20) == 3


def test_other_commands_may_take_their_time() -> None:
    body = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(1.5)
return 4
"""
    with supervised(body, server=False, wait=0.2) as process:
        assert _line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 4


def test_what_the_server_leaves_behind_is_ended() -> None:
    body = """
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with supervised(body) as process:
        left = int(_line(process))
        assert process.wait(10) == 137
        deadline = time.monotonic() + 5
        while psutil.pid_exists(left) and psutil.Process(left).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "it still runs"
            time.sleep(0.05)


def test_standard_input_reaches_the_command() -> None:
    program = SUPERVISE.format(body="    return len(sys.stdin.read())", server=False, wait=1)
    ended = subprocess.run(
        [sys.executable, "-c", program], input="12345", text=True, env=_environment(), check=False
    )
    assert ended.returncode == 5


def _at_terminal(body: str, typed: bytes, *, server: bool) -> tuple[int, str]:
    """Run a supervisor at a terminal, type when it is ready: its exit code, and the screen."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    program = SUPERVISE.format(body=indented, server=server, wait=5)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", program], _environment())
    screen = b""
    while b"ready" not in screen:
        screen += os.read(terminal, 1024)
    os.write(terminal, typed)
    while True:
        try:
            screen += os.read(terminal, 1024)
        except OSError:  # how a terminal says that nobody is left
            break
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), screen.decode()


def test_command_reads_from_the_terminal() -> None:
    body = "print('ready', flush=True)\nprint(input()[::-1])\nreturn 0"
    code, screen = _at_terminal(body, b"olleh\n", server=False)
    assert (code, "hello" in screen) == (0, True)


@pytest.mark.parametrize("server", [True, False])
def test_control_c_at_the_terminal(server: bool) -> None:
    body = "signal.signal(2, lambda *_: os._exit(0))\nprint('ready', flush=True)\ntime.sleep(30)"
    code, _ = _at_terminal(body, b"\x03", server=server)
    assert code == 0


class _Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path in ("/health", "/mlflow/health") else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    """Where something answers on /health and on /mlflow/health."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_health_is_asked_for(port: int) -> None:
    assert health.ask(Address("127.0.0.1", port, "/health", encrypted=False)) == "200"
    assert health.ask(Address("127.0.0.1", port, "/other", encrypted=False)) == "404"
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        nobody = Address("127.0.0.1", silent.getsockname()[1], "/health", encrypted=False)
        with pytest.raises(ConnectionRefusedError):
            health.ask(nobody)


def _process(table: Path, pid: int, arguments: list[str], environment: list[str]) -> None:
    folder = table / str(pid)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in arguments))
    (folder / "environ").write_bytes(b"".join(word.encode() + b"\0" for word in environment))


UVICORN = ["/opt/mlflow/bin/python", "-m", "uvicorn", "--host", "0.0.0.0", "--port", "5000"]


@pytest.mark.parametrize(
    ("arguments", "environment", "address"),
    [
        (UVICORN, [], ("127.0.0.1", 5000, "/health", False)),
        (
            ["/usr/bin/qemu-aarch64", *UVICORN, "--port", "8080", "app"],
            ["A=b", "_MLFLOW_STATIC_PREFIX=/mlflow"],
            ("127.0.0.1", 8080, "/mlflow/health", False),
        ),
        (["p", "-m", "uvicorn", "--host=::", "--port=1"], [], ("::1", 1, "/health", False)),
        (
            ["p", "-m", "uvicorn", "--ssl-certfile=c", "--host", "10.0.0.1", "--port", "1"],
            [],
            ("10.0.0.1", 1, "/health", True),
        ),
        (
            ["p", "-m", "gunicorn", "-b", "127.0.0.1:5001", "-w", "2", "mlflow.server:app"],
            [],
            ("127.0.0.1", 5001, "/health", False),
        ),
        (
            ["p", "-m", "waitress", "--host=[::1]", "--port=2", "mlflow.server:app"],
            [],
            ("::1", 2, "/health", False),
        ),
    ],
)
def test_address_of_the_running_server(
    tmp_path: Path,
    arguments: list[str],
    environment: list[str],
    address: tuple[str, int, str, bool],
) -> None:
    _process(tmp_path, 1, ["/opt/mlflow/bin/python", "/opt/mlflow/bin/mlflow", "server"], [])
    (tmp_path / "9").mkdir()
    (tmp_path / "self").mkdir()
    assert health.find(str(tmp_path)) is None
    _process(tmp_path, 12, arguments, environment)
    assert health.find(str(tmp_path)) == address


def _mlflow(*words: str, cwd: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PACKAGE / "bin" / "mlflow"), *words],
        cwd=cwd,
        env={**_environment(), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_other_commands_are_mlflows_own(tmp_path: Path) -> None:
    with _mlflow("mlflow", "db", "upgrade", "--help", cwd=tmp_path) as process:
        assert "Usage: mlflow db upgrade [OPTIONS] URL" in process.communicate()[0]
        assert process.returncode == 0
    with _mlflow("no-such-command", cwd=tmp_path) as process:
        assert "No such command 'no-such-command'" in process.communicate()[0]
        assert process.returncode == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["server", "--port", "${NOBODY}"], "'${NOBODY}' stands in the command, but the variable"),
        (["server", "--port"], "--port has no value and MLFLOW_SERVER_PORT or MLFLOW_PORT is not"),
        (
            ["server", "--backend-store-uri", "postgresql://u:s3cret@h:x/d"],
            "'postgresql://***' is no",
        ),
    ],
)
def test_faults_are_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    with _mlflow(*words, cwd=tmp_path) as process:
        output = process.communicate()[0]
    assert process.returncode == 1
    assert message in output
    assert output.count("\n") == 1
    assert "s3cret" not in output


def test_control_c_while_a_database_is_awaited(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://u@127.0.0.1:{free_port()}/x"
    with _mlflow("server", "--backend-store-uri", url, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert "waiting up to 60 s for the database" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        assert process.stdout.read() == ""


@pytest.mark.parametrize("option", ["--log-config", "--env-file"])
def test_what_uvicorn_must_read_first(tmp_path: Path, option: str) -> None:
    """MLflow is loaded after it then, as `mlflow server` does it."""
    file = tmp_path / "said.json"
    file.write_text('{"version": 1}' if option == "--log-config" else "A=b\n")
    with _served(tmp_path, MLFLOW_UVICORN_OPTS=f"{option} {file}") as (_, server):
        assert "uvicorn" in server.cmdline()


NASTY = [
    "postgresql+psycopg://u:{mark}@127.0.0.1:{port}/x",
    "postgresql+psycopg://u@tenant:a{mark}'\" \\ #/?b@127.0.0.1:{port}/x",
    "postgresql+psycopg://u:p%40ss%20{mark}%25@127.0.0.1:{port}/x",
    "postgresql+psycopg://u:p@ss:{mark}@127.0.0.1:{port}/x",
    "postgresql+psycopg://u@127.0.0.1:{port}/x?password={mark}",
    "postgresql+psycopg://127.0.0.1:{port}/x?user=u&sslpassword=a+b%27{mark}",
    "mysql+pymysql://u:ä漢🔑{mark}@127.0.0.1:{port}/x",
    "mysql+pymysql://u:x@127.0.0.1:{port}/x?no_such_parameter=1&passwd={mark}",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7Bx%7D%3BSERVER%3D127.0.0.1%3BPWD%3D{mark}",
    "postgresql+psycopg://u:{mark}@one:1,two:2/x",
    "postgresql+psycopg://u:{mark}",
    "u:{mark}@127.0.0.1/x",
]


@pytest.mark.parametrize(
    ("address", "form"),
    [
        *((address, "option") for address in NASTY),
        *((NASTY[1], form) for form in ("attached", "variable", "file")),
    ],
)
def test_secrets_leave_the_process_list(tmp_path: Path, address: str, form: str) -> None:
    """A server that waits for its database, or gives it up, shows nothing of the password."""
    mark = "Zq7marked"
    url = address.format(mark=mark, port=free_port())
    (tmp_path / "url").write_text(url)
    given: dict[str, tuple[list[str], dict[str, str]]] = {
        "option": (["--backend-store-uri", url], {}),
        "attached": ([f"--backend-store-uri={url}"], {}),
        "variable": ([], {"BACKEND_STORE_URI": url}),
        "file": ([], {"BACKEND_STORE_URI_FILE": str(tmp_path / "url")}),
    }
    words, variables = given[form]
    # Nothing of MLflow is loaded before the databases are there: that takes seconds.
    variables |= {"MLFLOW_PRELOAD": "false", "MLFLOW_DATABASE_WAIT": "1"}
    with _mlflow("server", *words, cwd=tmp_path, **variables) as process:
        assert process.stdout is not None
        output = process.stdout.readline()
        shown = []
        for one in (psutil.Process(process.pid), *psutil.Process(process.pid).children()):
            with suppress(psutil.NoSuchProcess):
                shown += one.cmdline()
        output += process.stdout.read()
        assert process.wait(60) == 1
    assert mark not in output
    assert not [word for word in shown if mark in word]
    if not address.startswith("u:"):  # MLflow takes that for a path
        assert "Traceback" not in output
        assert output.count("\n") <= 2


def test_traceback_of_mlflow_is_masked(tmp_path: Path) -> None:
    with _mlflow("db", "upgrade", "mysql+pymysql://u:s3 cret'@h:port/d", cwd=tmp_path) as process:
        output = process.communicate()[0]
    assert process.returncode == 1
    assert "Traceback" in output
    assert "cret" not in output


def test_variables_that_mlflow_prints_are_masked(tmp_path: Path) -> None:
    url = "mysql+pymysql://u:s3cret-word@db/x"
    with _mlflow("doctor", cwd=tmp_path, MLFLOW_BACKEND_STORE_URI=url) as process:
        output = process.communicate()[0]
    assert "MLFLOW_BACKEND_STORE_URI: mysql+pymysql://u:***@db/x" in output
    assert "s3cret-word" not in output


def test_database_that_never_answers(tmp_path: Path) -> None:
    """Its machine accepts the connection, as that of a database does which is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"mysql+pymysql://u:s3cret@127.0.0.1:{silent.getsockname()[1]}/x"
        with _mlflow(
            "server", "--backend-store-uri", url, cwd=tmp_path, MLFLOW_DATABASE_WAIT="1"
        ) as process:
            output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert output.endswith(
        "/x did not answer within 1 s (MLFLOW_DATABASE_WAIT): it accepts connections only\n"
    )
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "can't be read: it is a FIFO"),
        (lambda path: path.symlink_to("/dev/zero"), "can't be read: it is a device"),
        (lambda path: path.write_bytes(b"a\0b"), "has a NUL byte in it"),
    ],
)
def test_secret_file_that_holds_none(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / "secret")
    path = str(tmp_path / "secret")
    with _mlflow("server", cwd=tmp_path, BACKEND_STORE_URI_FILE=path) as process:
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert f"BACKEND_STORE_URI_FILE names {path}, which {message}" in output
    assert output.count("\n") == 1


@contextmanager
def _served(cwd: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """A server, from the environment alone: the entry point, and the process that serves."""
    port = free_port()
    with _mlflow(
        cwd=cwd, MLFLOW_SERVER_PORT=str(port), MLFLOW_HOST="127.0.0.1", **variables
    ) as process:
        try:
            address = Address("127.0.0.1", port, "/health", encrypted=False)
            _until(lambda: _is_healthy(process, address), "it never was healthy")
            [server] = psutil.Process(process.pid).children()
            (cwd / "processes").mkdir()
            (cwd / "processes" / str(server.pid)).symlink_to(f"/proc/{server.pid}")
            assert health.find(str(cwd / "processes")) == address
            yield process, server
        finally:
            process.terminate()


def _is_healthy(process: subprocess.Popen[str], address: Address) -> bool:
    assert process.poll() is None, process.communicate()[0]
    try:
        return health.ask(address) == "200"
    except ConnectionRefusedError:
        return False


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.mark.parametrize("preload", ["true", "false"])
def test_server_that_is_killed(tmp_path: Path, preload: str) -> None:
    with _served(tmp_path, MLFLOW_PRELOAD=preload) as (process, server):
        assert ("uvicorn" in server.cmdline()) == (preload == "false")
        server.kill()
        assert process.wait(10) == 137
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "processes"}


def test_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    with _served(tmp_path) as (process, server):
        first, other = server.children()
        first.kill()
        _until(
            lambda: {other.pid} < {one.pid for one in server.children()} - {first.pid},
            "no other worker was started",
        )
        replaced = set(server.children())
        process.send_signal(signal.SIGHUP)
        _until(
            lambda: len(now := set(server.children())) == 2 and not now & replaced,
            "the workers were not replaced",
        )
        process.terminate()
        assert process.wait(20) == 0


def test_single_process_serves_without_workers(tmp_path: Path) -> None:
    with _served(tmp_path, MLFLOW_WORKERS="1") as (process, server):
        assert not server.children()
        process.terminate()
        assert process.wait(20) == 143, "uvicorn raises the signal again when it has finished"


def test_log_of_a_running_server_is_masked(tmp_path: Path) -> None:
    """Here by a request whose path has the secret in it: the log says that it came."""
    secret = "Zq7-marked-secret"
    with _served(tmp_path, MLFLOW_TRACKING_PASSWORD=secret) as (process, server):
        words = _words_of(server)
        port = int(words[words.index("--port") + 1])
        address = Address("127.0.0.1", port, f"/asked-for/{secret}", encrypted=False)
        assert health.ask(address) == "404"
        process.terminate()
        assert process.wait(20) == 0
        assert process.stdout is not None
        output = process.stdout.read()
    assert "/asked-for/***" in output
    assert secret not in output


def _words_of(server: psutil.Process) -> list[str]:
    """The command of a server, which its arguments don't say."""
    found = announced(f"/proc/{server.pid}")
    assert found is not None
    return found


LINKS = {
    "MLFLOW_PORT": "tcp://10.0.0.1:5000",
    "MLFLOW_PORT_5000_TCP": "tcp://10.0.0.1:5000",
    "MLFLOW_SERVICE_HOST": "10.0.0.1",
}
"""What Kubernetes sets beside a service that is called `mlflow`."""


def test_server_beside_a_service_of_its_name(tmp_path: Path) -> None:
    with _served(tmp_path, **LINKS) as (process, _):
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.parametrize("words", [("models", "serve"), ("db", "upgrade")])
def test_command_beside_a_service_of_its_name(tmp_path: Path, words: tuple[str, ...]) -> None:
    """It gets as far as its own options."""
    with _mlflow(*words, cwd=tmp_path, **LINKS) as process:
        output = process.communicate()[0]
    assert "Missing" in output
    assert "10.0.0.1" not in output


FAILURES: dict[str, tuple[list[str], dict[str, str], str]] = {
    "an option's value": (["--workers", "many"], {}, "--workers is 'many': it takes a"),
    "an option": (["--no-such-option"], {}, "No such option"),
    "quotes": ([], {"BACKEND_STORE_URI": '"sqlite:///a.db"'}, "has quotes around its value"),
    "a line end": ([], {"BACKEND_STORE_URI": "sqlite:///a.db\r"}, "has a line end"),
    "no key": (["--app-name", "basic-auth"], {}, "needs MLFLOW_FLASK_SERVER_SECRET_KEY"),
    "a pool": ([], {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "Pond"}, "Invalid poolclass parameter"),
    "initialisation": (
        ["--backend-store-uri", "sqlite:///full.db"],
        {},
        "table registered_models already exists",
    ),
}
"""Starts that fail: the server's options, variables, and words of the one line."""


@pytest.mark.parametrize("failure", FAILURES)
def test_failed_start_is_one_line(tmp_path: Path, failure: str) -> None:
    words, variables, message = FAILURES[failure]
    with closing(sqlite3.connect(tmp_path / "full.db")) as database, database:
        database.execute("CREATE TABLE registered_models (id INTEGER)")
    with _mlflow("server", *words, cwd=tmp_path, **variables) as process:
        output = process.communicate(timeout=90)[0]
    assert process.returncode == 1
    assert message in output
    assert output.startswith("mlflow-entrypoint: ")
    assert output.count("\n") == 1, output


def test_failed_upgrade_is_one_line_more_than_its_announcement(tmp_path: Path) -> None:
    make_runs(f"sqlite:///{tmp_path}/mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE webhooks (id INTEGER)")
    with _mlflow("server", cwd=tmp_path, MLFLOW_SCHEMA_UPGRADE="true") as process:
        output = process.communicate(timeout=90)[0]
    assert process.returncode == 1
    first, second, *more = output.splitlines()
    assert "upgrading the schema of sqlite:///mlflow.db from" in first
    assert "could not be upgraded: table webhooks already exists" in second
    assert not more


def test_traceback_of_a_failed_start_is_there_for_whoever_asks(tmp_path: Path) -> None:
    variables = {"MLFLOW_LOGGING_LEVEL": "DEBUG", "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "Pond"}
    with _mlflow("server", cwd=tmp_path, **variables) as process:
        output = process.communicate(timeout=90)[0]
    assert process.returncode == 1
    assert "Traceback" in output


@pytest.mark.parametrize("form", ["variables", "options"])
def test_garbage_is_collected_with_the_servers_variables(tmp_path: Path, form: str) -> None:
    """No server runs, and the artifacts of the run had gone through one."""
    url, root = f"sqlite:///{tmp_path}/tracked.db", tmp_path / "artifacts"
    store: Any = SqlAlchemyStore(url, "mlflow-artifacts:/")  # type: ignore[no-untyped-call]
    kept, deleted = (store.create_run("0", "somebody", 1, [], None).info.run_id for _ in range(2))
    store.delete_run(deleted)
    for run in (kept, deleted):
        (root / "0" / run / "artifacts").mkdir(parents=True)
        (root / "0" / run / "artifacts" / "note.txt").write_text("a note")
    words, variables = {
        "variables": ([], {"BACKEND_STORE_URI": url, "ARTIFACT_ROOT": str(root)}),
        "options": (["--backend-store-uri", url, f"--artifacts-destination={root}"], {}),
    }[form]
    with _mlflow("gc", *words, cwd=tmp_path, **variables) as process:
        output = process.communicate(timeout=90)[0]
    assert process.returncode == 0, output
    assert f"{deleted} has been permanently deleted" in output
    assert [path.parts[-3] for path in root.rglob("note.txt")] == [kept]
    assert {path.name for path in tmp_path.iterdir()} == {"tracked.db", "artifacts"}
