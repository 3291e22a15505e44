"""The server of models, part by part."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import mmap
import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow_entrypoint.errors import EntrypointError
from mlflow_model_server import (
    access_log,
    addresses,
    answers,
    cpus,
    fitness,
    frames,
    front,
    listening,
    memory,
    service_links,
    settings,
)
from mlflow_model_server.dispatcher import Dispatcher, DispatchLimits, Worker
from mlflow_model_server.frames import Answer, Request
from mlflow_model_server.unsent import Unsent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

PACKAGE = Path(__file__).parents[1]
FOLDERS = [PACKAGE, PACKAGE.with_name("mlflow-entrypoint")]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "9900000 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({}, None),
    ],
)
def test_cpus_that_may_be_used(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpus.available(tmp_path) == (expected or cpus.available(tmp_path / "none"))


def test_settings_by_default() -> None:
    read = settings.read({})
    assert read.workers == cpus.available()
    assert read.threads == 1
    assert (str(read.model), read.port, read.max_request_bytes) == ("/opt/ml/model", 8080, 2**26)
    assert (read.access_log, read.enforce_requirements) == (True, True)
    assert (read.queue, read.worker_memory, read.load_timeout) == (None, None, 900)
    assert (read.queue_bytes, read.max_unsent_bytes) == (2**28, 2**28)
    assert settings.read({"MLFLOW_MODELS_QUEUE": "0"}).queue == 0
    large = settings.read({"MLFLOW_MODELS_MAX_REQUEST_BYTES": str(2**30)})
    assert large.queue_bytes == 2**30, "it would take no request of the size that it may have"
    names = [value for value in vars(settings).values() if isinstance(value, str)]
    assert all(name in settings.HELP for name in names if name.startswith("MLFLOW_MODEL"))
    environment = {"OMP_NUM_THREADS": "7"}
    settings.apply(settings.read({"MLFLOW_MODELS_THREADS": "3"}), environment)
    assert environment == {
        "OMP_NUM_THREADS": "7",
        "OPENBLAS_NUM_THREADS": "3",
        "MKL_NUM_THREADS": "3",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_MODELS_WORKERS", "0"),
        ("MLFLOW_MODELS_WORKERS", "65"),
        ("MLFLOW_MODELS_WORKERS", "²"),
        ("MLFLOW_MODELS_WORKERS", "1.5"),
        ("MLFLOW_MODELS_PORT", "65536"),
        ("MLFLOW_MODELS_HOST", "localhost"),
        ("MLFLOW_MODELS_HOST", "[::1"),
        ("MLFLOW_MODELS_QUEUE", "-1"),
        ("MLFLOW_MODELS_LOAD_TIMEOUT", "0"),
        ("MLFLOW_MODELS_MAX_UNSENT_BYTES", "0"),
        ("MLFLOW_MODEL_REQUIREMENTS", "no"),
        ("MLFLOW_MODELS_ACCESS_LOG", "maybe"),
        ("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "-1"),
        ("MLFLOW_STOP_WAIT", "soon"),
    ],
)
def test_settings_that_cannot_be(name: str, value: str) -> None:
    with pytest.raises(EntrypointError, match=re.escape(f"{name} is '{value}': it takes")):
        settings.read({name: value})


@pytest.mark.parametrize("host", ["10.0.0.1", "[fd00::1]"])
def test_service_links_are_no_settings(host: str) -> None:
    links = {
        "MLFLOW_PORT": f"tcp://{host}:80",
        "MLFLOW_MODELS_PORT": f"tcp://{host}:8080",
        "MLFLOW_MODELS_PORT_8080_TCP": f"tcp://{host}:8080",
        "MLFLOW_MODELS_WORKERS_PORT": f"udp://{host}:8080",
    }
    others = {
        "MLFLOW_MODELS_SERVICE_HOST": host,
        "MLFLOW_TRACKING_URI": f"tcp://{host}:80",
        "REDIS_PORT": f"tcp://{host}:6379",
        "MLFLOW_STOP_PORT": "7",
    }
    environment = {**links, **others}
    service_links.drop(environment)
    assert environment == others
    with pytest.raises(EntrypointError, match="MLFLOW_MODELS_PORT is 'http://"):
        settings.read({"MLFLOW_MODELS_PORT": f"http://{host}:80"})


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


by_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 on its loopback")
HOSTS = [
    pytest.param("127.0.0.1", "127.0.0.1", id="an address"),
    pytest.param("0.0.0.0", "127.0.0.1", id="IPv4"),
    pytest.param("::", "::1", id="IPv6", marks=by_ipv6),
    pytest.param("", "127.0.0.1", id="IPv4 beside IPv6"),
    pytest.param("", "::1", id="IPv6 beside IPv4", marks=by_ipv6),
]
"""Where a server listens, and where its clients come to."""


@pytest.mark.parametrize(("host", "reached"), HOSTS)
def test_accepted_sockets_do_not_delay(host: str, reached: str) -> None:
    """Neither by the listening socket's own option, nor by what asyncio does for TCP."""
    listener = listening.listen(host, 0, 60)
    assert listener.proto == socket.IPPROTO_TCP
    port = listener.getsockname()[1]
    with listener, socket.create_connection((reached, port)):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("host", "other"), [("0.0.0.0", "::1"), pytest.param("::", "127.0.0.1", marks=by_ipv6)]
)
def test_one_protocol_alone(host: str, other: str) -> None:
    with (
        listening.listen(host, 0, 60) as listener,
        pytest.raises(OSError, match=r"refused|assign|unreachable|not supported"),
    ):
        socket.create_connection((other, listener.getsockname()[1]))


def test_a_machine_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clients come by IPv4. The kernel's own refusal takes a boot with ipv6.disable=1."""

    class Socket(socket.socket):
        def __init__(self, family: int = -1, *rest: int) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *rest)

    monkeypatch.setattr("socket.socket", Socket)
    with listening.listen("", 0, 60) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"
    with pytest.raises(EntrypointError, match="port 80 of ::1 can't be listened on: Address fam"):
        listening.listen("::1", 80, 60)


@pytest.mark.parametrize(
    ("text", "host", "asked"),
    [
        ("", "", ("127.0.0.1", "::1")),
        ("0.0.0.0", "0.0.0.0", ("127.0.0.1",)),
        ("::", "::", ("::1",)),
        ("[::]", "::", ("::1",)),
        ("0:0::0", "::", ("::1",)),
        ("[FD00::1]", "fd00::1", ("fd00::1",)),
        ("10.0.0.1", "10.0.0.1", ("10.0.0.1",)),
    ],
)
def test_addresses(text: str, host: str, asked: tuple[str, ...]) -> None:
    assert settings.read({"MLFLOW_MODELS_HOST": text}).host == host
    assert addresses.asked(host) == asked


class _Stream(io.StringIO):
    """Knows what it was given at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        return len(text)


def test_lines_are_written_together_in_their_order() -> None:
    stream = _Stream()

    async def log() -> None:
        lines = access_log.AccessLog(stream)
        lines.add("one")
        lines.add("two")
        assert stream.written == []
        await asyncio.sleep(0.1)
        assert stream.written == ["one\ntwo\n"]
        lines.add("three")
        lines.flush()
        await asyncio.sleep(0.1)
        assert stream.written[1:] == ["three\n"]
        for number in range(100):
            lines.add(f"{number:099}")
        assert [len(text) for text in stream.written[2:]] == [4000, 4000]
        lines.flush()
        lines.flush()
        assert [len(text) for text in stream.written[2:]] == [4000, 4000, 2000]

    asyncio.run(log())


def test_accepted_sockets_give_up_who_takes_nothing() -> None:
    listener = listening.listen("127.0.0.1", 0, 1)
    with listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        accepted.settimeout(30)
        with accepted, pytest.raises(TimeoutError) as caught:
            accepted.sendall(bytes(100 << 20))
    assert caught.value.errno == errno.ETIMEDOUT, "only the test's own patience has ended it"


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open sockets as the system allows; a shell's own limit is often 1024."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


# Where 64 fill the queue, one more may be let in who finds no place for the end of its handshake.
@pytest.mark.parametrize("waiting", [8, 64])
@pytest.mark.parametrize(("host", "reached"), HOSTS)
@pytest.mark.usefixtures("many_files")
def test_nobody_is_lost_when_the_listener_closes(
    host: str, reached: str, waiting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients come all the time: each of them is let in, or finds nobody listening."""
    monkeypatch.setattr(listening, "_BACKLOG", 63)
    listener = listening.listen(host, 0, 60)
    address = (reached, listener.getsockname()[1])
    admitted: list[socket.socket] = []
    connected: list[socket.socket] = []

    async def admit(connection: socket.socket) -> None:
        admitted.append(connection)

    def come() -> None:
        with contextlib.suppress(ConnectionRefusedError, TimeoutError):
            while True:
                connected.append(socket.create_connection(address, timeout=0.5))

    clients = [threading.Thread(target=come) for _ in range(4)]
    for client in clients:
        client.start()
    while len(connected) < waiting and any(client.is_alive() for client in clients):
        time.sleep(0.001)
    asyncio.run(listening.shut(listener, admit))
    for client in clients:
        client.join()
    assert listener.fileno() == -1
    let_in = {one.getpeername()[1] for one in admitted if _is_open(one)}
    there = {one.getsockname()[1] for one in connected}
    assert there == let_in, f"of {len(there)} clients {len(there - let_in)} are lost"
    assert len(let_in) >= waiting
    for one in (*admitted, *connected):
        one.close()


def _is_open(connection: socket.socket) -> bool:
    """Tell whether it is a client's: those of the server's own have said something, and gone."""
    connection.settimeout(0)
    try:
        return connection.recv(1) != b"\n"
    except BlockingIOError:
        return True


@pytest.mark.parametrize("size", [0, 10, 65536, 300_000])
def test_frames(size: int) -> None:
    near, far = socket.socketpair()
    request = Request("1", "POST", "/é", "/%C3%A9", "a=b", [("content-type", "text/csv")])
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with near, far:
        pieces = b"".join(frames.encode(request, body))
        sender = threading.Thread(target=near.sendall, args=(pieces,))
        sender.start()
        received = frames.receive(far)
        sender.join()
        near.close()
        assert frames.receive(far) is None
    assert received is not None
    assert [tuple(pair) for pair in received[0].headers] == request.headers
    assert (received[0][:5], received[1]) == (request[:5], body)


BODY = json.dumps({"dataframe_split": {"columns": ["size"], "data": [["hidden-1"], [815.25]]}})


@pytest.mark.parametrize(
    ("message", "cleaned"),
    [
        (
            (
                "Failed to predict data '  size\n0 'hidden-1''. \nError: Model is missing inputs"
                " ['height']."
            ),
            "Failed to predict: Model is missing inputs ['height'].",
        ),
        (
            (
                "Failed to enforce schema of data '  size\n0 hidden-1' with schema '['height':"
                " double (required)]'. Error: Incompatible input types for column height."
            ),
            "Failed to enforce schema: Incompatible input types for column height.",
        ),
        (
            (
                "Failed to convert column size to type 'float64'. Error: 'ValueError(\"could not"
                " convert string to float: 'hidden-1'\")'"
            ),
            "Failed to convert column size to type 'float64'. Error: ValueError",
        ),
        (
            (
                "Ensure that input is a valid JSON formatted string. Error: 'JSONDecodeError("
                "'Expecting value: line 1 column 1 (char 0)')'\nInput: \nb'hidden-1'\n"
            ),
            (
                "Ensure that input is a valid JSON formatted string. Error: JSONDecodeError:"
                " Expecting value: line 1 column 1 (char 0)"
            ),
        ),
        (
            (
                "a valid JSON string. Error: 'UnicodeDecodeError('utf-8', b'hidden-1\\xff',"
                " 8, 9, 'invalid start byte')'"
            ),
            "a valid JSON string. Error: UnicodeDecodeError",
        ),
        ("Can not safely convert `815.25` to `long`", "Can not safely convert `…` to `long`"),
        ("it was hidden-1, and 815.25", "it was …, and …"),
        ("4 columns passed, passed data had 3 columns",) * 2,
        (
            "Types: ['text/csv', 'application/vnd.apache.parquet']. Got 'text/hidden-1'.",
            "Types: ['text/csv', 'application/vnd.apache.parquet']. Got '…'.",
        ),
        (
            "not a valid representation. Error: '1 columns passed, passed data had 2 columns'",
            "not a valid representation. Error: 1 columns passed, passed data had 2 columns",
        ),
        (
            (
                "Failed to convert column n to type 'Array(double)'. Error: 'ValueError(\"invalid"
                " literal for int() with base 10: 'x'\")'"
            ),
            (
                "Failed to convert column n to type 'Array(double)'. Error: ValueError: invalid"
                " literal for int() with base 10: 'x'"
            ),
        ),
        (
            "Invalid parameters found: {('speed', \"for 'speed': double (default: 1), not `0`\")}",
            "Invalid parameters found: {('speed', \"… 'speed': double (default: 1) …\")}",
        ),
        (
            "Error: 'Column ize: hidden is out of bounds'",
            "Error: what was sent can't be converted",
        ),
        (
            "Error: 'Column ize: the data is out of bounds'",
            "Error: Column ize: the data is out of bounds",
        ),
    ],
)
def test_messages_without_data(message: str, cleaned: str) -> None:
    names = {"size", "height", "Array(double)", "'speed': double (default: 1)"}
    assert answers.clean(message, BODY.encode(), names) == cleaned


def test_a_message_that_is_cut_in_a_quote() -> None:
    """What comes before the quote is left out, so that the quote would be in what is shown."""
    body = b"the weather in secret valley"
    for before in range(1980, 2000):
        cleaned = answers.clean(f"not '{'-' * before}', 'secret valley'", body, set())
        assert cleaned in {"not '…'", "not '…', '…'", "not '…', ", "not '…',"}


def test_words_looked_for_in_a_long_request() -> None:
    """Few, however many the message has: the request is searched for each of them."""
    names = [f"column-{number}" for number in range(8000)]
    message = f"Model is missing inputs ['size']. Note that there were extra inputs: {names}"
    calls = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        cleaned = answers.clean(message, json.dumps(names).encode(), {"size"})
    finally:
        sys.setprofile(None)
    assert cleaned.startswith("Model is missing inputs ['size']. Note that")
    assert "column" not in cleaned.replace("columns", "")
    assert calls < 1000


LONG = {
    "blanks": "' ' * 2_000_000",
    "quotes": '"\'a " * 700_000',
    "schemas": '"Failed to enforce schema of data \'" + "\' with schema \'" * 140_000',
    "values": '"Failed to enforce schema of \'" * 70_000',
    "causes": '"Error: \'a(" * 200_000',
    "inputs": "'Input:  ' * 250_000",
    "words": '"Error: \'ValueError(" + " ".join(map(str, range(300_000))) + ")\'"',
}


def _run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the server's modules in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, FOLDERS))},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", LONG)
def test_long_messages(name: str) -> None:
    """Seconds of CPU time are the limit, where time that grows by the square takes minutes."""
    program = (
        "import resource; from mlflow_model_server import answers;"
        "resource.setrlimit(resource.RLIMIT_CPU, (15, 15));"
        f"message = {LONG[name]};"
        "print(len(answers.clean(message, b'b' * 2_000_000, set())))"
    )
    ended = _run(program)
    assert ended.returncode == 0, ended
    assert int(ended.stdout) <= 4 * answers.LONGEST


def test_errors_keep_their_code_and_are_short() -> None:
    said = {"error_code": "BAD_REQUEST", "message": "long " * 200, "stack_trace": "hidden"}
    answer = Answer(400, [("content-type", "application/json")], json.dumps(said).encode())
    left = json.loads(answers.without_data(answer, b"", set()).body)
    assert set(left) == {"error_code", "message"}
    assert len(left["message"]) == answers.LONGEST
    other = answer._replace(status=404, body=b'{"detail": "Not Found"}')
    assert answers.without_data(other, b"", set()) == other
    hinted = json.loads(answers.without_data(answer, b"", set(), " (see the log)").body)
    assert hinted["message"].endswith("… (see the log)")
    assert len(hinted["message"]) == answers.LONGEST
    fine = answer._replace(status=200)
    assert answers.without_data(fine, b"", set()) is fine


def test_origin_of_an_exception() -> None:
    trace = (
        "Traceback (most recent call last):\n"
        '  File "/a.py", line 1, in outer\n    inner()\n'
        '  File "/b.py", line 22, in inner\n    raise\n'
        "pkg.OddError: hidden\nhidden: too\n"
    )
    assert answers.origin(trace) == "pkg.OddError at /b.py:22 in inner"


@pytest.mark.parametrize(
    ("lines", "unmet"),
    [
        ("", None),
        ("mlflow==0.1\nmlflow_skinny==0.1", None),
        ("pytest>=1 --hash=sha256:0 # pinned\n-r other.txt\n--find-links x\nhttps://x/y.whl", None),
        ("./local\npytest @ https://example.org/p.whl", None),
        ("PyTest<1", "requirements: PyTest<1 (is "),
        ("nothing-a\nnothing-b[extra]>=1", "nothing-a (is not installed), nothing-b>=1 (is not"),
        ("nothing-a; sys_platform == 'win32'", None),
        ("pytest>=1,\\\n  <2", "pytest<2,>=1 (is "),
    ],
)
def test_requirements(tmp_path: Path, lines: str, unmet: str | None) -> None:
    (tmp_path / "requirements.txt").write_text(lines)
    said = fitness.unmet(tmp_path, {})
    assert said is None if unmet is None else unmet in (said or "")


def test_requirements_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_bytes(b"caf\xe9\n")
    with pytest.raises(EntrypointError, match="is no UTF-8 text file: save the model anew"):
        fitness.unmet(tmp_path, {})
    file.unlink()
    file.mkdir()
    with pytest.raises(EntrypointError, match="is no UTF-8 text file: save the model anew"):
        fitness.unmet(tmp_path, {})


def test_requirements_of_somebody_else() -> None:
    """In a process without privileges: for root, every file is readable."""
    program = (
        "import os, pathlib, tempfile; from mlflow_model_server import fitness;"
        "model = pathlib.Path(tempfile.mkdtemp()); model.chmod(0o755);"
        "(model / 'requirements.txt').touch(0);"
        "os.getuid() or os.setuid(65534);"
        "print(fitness.unmet(model, {}))"
    )
    ended = _run(program)
    said = ended.stderr.splitlines()[-1]
    assert "EntrypointError: " in said
    assert "requirements.txt can't be read by user" in said
    assert said.endswith("make the model's files readable for all")


@pytest.mark.parametrize("distributions", [["mlflow"], ["mlflow_skinny"]])
def test_version_of_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distributions: list[str]
) -> None:
    for name in distributions:
        (tmp_path / f"{name}-9.8.dist-info").mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.8\n"
        (tmp_path / f"{name}-9.8.dist-info" / "METADATA").write_text(metadata)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert front.mlflow_version() == "9.8"


def test_many_unmet_requirements(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("\n".join(f"nothing-{n}" for n in range(9)))
    said = fitness.unmet(tmp_path, {"python_version": "3.8.10"})
    assert said is not None
    assert said.startswith("the image doesn't meet the model's requirements: Python 3.8 (is 3.")
    assert said.endswith(" and 5 more")


LIMITS = DispatchLimits(60, 4)


class _Workers:
    """A dispatcher with workers whose other ends are here."""

    def __init__(self, limits: DispatchLimits = LIMITS, unsent: int = 1 << 20) -> None:
        self.lost: list[tuple[int, str]] = []
        self.unsent = Unsent(unsent)
        self.dispatcher = Dispatcher(limits, self.unsent, lambda _: None, self._lose)
        self.ends: dict[int, list[socket.socket]] = {}

    def _lose(self, worker: Worker) -> None:
        self.lost.append((worker.number, worker.why))

    async def add(self, number: int, lanes: int = 2) -> None:
        pairs = [socket.socketpair() for _ in range(lanes + 1)]
        self.ends[number] = [far for _, far in pairs]
        for near, far in pairs:
            near.settimeout(0)
            if far is not pairs[-1][1]:
                frames.send(far, Answer(0, [], b""))
        await self.dispatcher.add(number, [near for near, _ in pairs])
        await asyncio.sleep(0.01)

    async def die(self, number: int, *, memory: bool = False, blamed: tuple[int, ...] = ()) -> None:
        for end in self.ends.pop(number):
            end.close()
        await asyncio.sleep(0.01)
        # As the manager says it.
        self.dispatcher.settle(number, memory=memory, blamed=blamed)
        await asyncio.sleep(0.01)

    def answer(self, number: int) -> None:
        """Have every lane that was asked something answer."""
        for end in self.ends[number][:-1]:
            end.settimeout(0)
            try:
                end.recv(65536)
            except BlockingIOError:
                continue
            end.settimeout(None)
            frames.send(end, Answer(200, [], b"fine"))


async def _dispatch() -> None:
    workers = _Workers()
    submit = workers.dispatcher.submit
    first = submit([b"first"])
    assert first.worker == 0
    await workers.add(1)
    await workers.add(2)
    second, third = submit([b"second"]), submit([b"third"])
    assert [one.worker for one in (first, second, third)] == [1, 2, 1]
    fourth, fifth = submit([b"fourth"]), submit([b"fifth"])
    assert (fourth.worker, fifth.worker) == (2, 0)
    fifth.answer.cancel()
    workers.answer(2)
    await asyncio.sleep(0.01)
    assert (await second.answer).body == b"fine"
    # What was in flight goes elsewhere, and the one that died with two goes alone.
    await workers.die(1)
    assert workers.lost == [(1, "")]
    assert (first.worker, third.worker, first.deaths) == (2, 2, 1)
    sixth = submit([b"sixth"])
    await workers.die(2)
    assert (first.worker, third.worker, sixth.worker) == (0, 0, 0)
    await workers.add(3)
    assert (first.worker, third.worker, sixth.worker) == (3, 0, 0)
    await workers.die(3)
    assert (await first.answer).status == 500
    await workers.add(4)
    assert (third.worker, sixth.worker) == (4, 0)
    workers.answer(4)
    await asyncio.sleep(0.01)
    assert (await third.answer).status == 200
    assert sixth.worker == 4
    workers.dispatcher.give_up()
    await workers.die(4)
    assert (await sixth.answer).status == 503
    assert (await submit([b"late"]).answer).status == 503


def test_dispatching() -> None:
    asyncio.run(_dispatch())


async def _limit_waiting() -> None:
    workers = _Workers(DispatchLimits(60, 2))
    submit = workers.dispatcher.submit

    def full() -> bool:
        return workers.dispatcher.is_full

    await workers.add(1)
    taken = [submit([b"x"]) for _ in range(4)]
    # Two are answered, and as many may wait as there are lanes.
    assert [one.worker for one in taken] == [1, 1, 0, 0]
    assert full()
    taken[3].answer.cancel()
    await asyncio.sleep(0)
    assert (full(), workers.dispatcher.waiting) == (False, 1)
    # A fast model has a longer queue, a slow one the same: both wait for a short time.
    now = asyncio.get_running_loop().time()
    for took, most in ((0.01, 20), (3.0, 2)):
        for _ in range(200):
            workers.dispatcher.measure(now - took)
        waiting = [submit([b"x"]) for _ in range(most - workers.dispatcher.waiting - 1)]
        assert not full(), took
        waiting.append(submit([b"x"]))
        assert full(), took
        for one in waiting:
            one.answer.cancel()
        await asyncio.sleep(0)


def test_as_many_wait_as_are_answered_soon() -> None:
    asyncio.run(_limit_waiting())


async def _stand_in_a_queue() -> None:
    workers = _Workers(DispatchLimits(60, 4))
    await workers.add(1, 4)

    def fill() -> int:
        """Submit as many as are let in, where predictions take 51 ms; 100 ms may be waited."""
        now = asyncio.get_running_loop().time()
        for _ in range(200):
            workers.dispatcher.measure(now - 0.051)
        while not workers.dispatcher.is_full:
            workers.dispatcher.submit([b"x"])
        return workers.dispatcher.waiting

    async def leave(waiting: int) -> None:
        while workers.dispatcher.waiting > waiting:
            workers.answer(1)
            await asyncio.sleep(0.001)

    assert fill() == 8
    await asyncio.sleep(0.15)
    await leave(4)
    assert fill() == 6
    await leave(0)
    assert fill() == 8


def test_a_queue_that_does_not_empty_is_shorter() -> None:
    """A burst may wait its turn; under overload those that are let in wait less."""
    asyncio.run(_stand_in_a_queue())


async def _wait_for_workers_that_load() -> None:
    workers = _Workers(DispatchLimits(60, 4))
    taken = []
    while not workers.dispatcher.is_full:
        taken.append(workers.dispatcher.submit([b"x"]))
    assert len(taken) == 8
    await workers.add(1)
    assert workers.dispatcher.is_full
    assert [one.worker for one in taken] == [1, 1, 0, 0, 0, 0, 0, 0]
    await workers.add(2)
    assert workers.dispatcher.is_full
    assert [one.worker for one in taken] == [1, 1, 2, 2, 0, 0, 0, 0]


def test_a_burst_waits_for_workers_that_load() -> None:
    """Ready with its first worker, a server takes as many requests as with all of them."""
    asyncio.run(_wait_for_workers_that_load())


async def _without_a_queue() -> None:
    workers = _Workers(DispatchLimits(60, 2, waiting=0))
    assert workers.dispatcher.is_full
    await workers.add(1)
    for _ in range(2):
        assert not workers.dispatcher.is_full
        workers.dispatcher.submit([b"x"])
    assert workers.dispatcher.is_full


def test_nothing_waits_without_a_queue() -> None:
    asyncio.run(_without_a_queue())


async def _end_for_memory(blamed: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Of four requests in a worker: those that are refused, and those that are tried again."""
    workers = _Workers(DispatchLimits(60, 8))
    await workers.add(1, 4)
    tasks = [workers.dispatcher.submit([b"x"]) for _ in range(4)]
    # Lanes are taken from the end.
    places = [3, 2, 1, 0]
    await workers.die(1, memory=True, blamed=blamed)
    await workers.add(2, 8)
    refused = [place for place, one in zip(places, tasks, strict=True) if one.answer.done()]
    if refused:
        found = {(await one.answer).status for one in tasks if one.answer.done()}
        assert found == {507}
    return refused, [place for place, one in zip(places, tasks, strict=True) if one.worker == 2]


@pytest.mark.parametrize(
    ("blamed", "refused", "tried"),
    [
        ((2,), [2], [3, 1, 0]),
        # Those that may be guilty, each alone in a worker: here there is one.
        ((1, 2), [], [2]),
        ((), [], [3]),
    ],
)
def test_requests_that_ended_a_worker_by_memory(
    blamed: tuple[int, ...], refused: list[int], tried: list[int]
) -> None:
    assert asyncio.run(_end_for_memory(blamed)) == (refused, tried)


async def _end_alone_for_memory() -> None:
    workers = _Workers()
    await workers.add(1)
    tasks = [workers.dispatcher.submit([b"x"]) for _ in range(2)]
    await workers.die(1, memory=True)
    await workers.add(2)
    [alone] = [one for one in tasks if one.worker == 2]
    await workers.die(2, memory=True)
    assert (await alone.answer).status == 507
    await workers.add(3)
    [other] = [one for one in tasks if one.worker == 3]
    workers.answer(3)
    assert (await other.answer).status == 200


def test_a_request_that_ends_a_worker_alone_by_memory() -> None:
    asyncio.run(_end_alone_for_memory())


FULL = str(1 << 63)
CGROUPS = {
    "v2": ({"memory.current": "900\n", "memory.max": "1000\n"}, 1000),
    "v2 without a limit": ({"memory.current": "900\n", "memory.max": "max\n"}, None),
    "v1": (
        {"memory/memory.usage_in_bytes": "900\n", "memory/memory.limit_in_bytes": "1000\n"},
        1000,
    ),
    "v1 without a limit": ({"memory/memory.limit_in_bytes": FULL}, None),
    "none": ({}, None),
}


@pytest.mark.parametrize("name", CGROUPS)
def test_memory_of_a_container(tmp_path: Path, name: str) -> None:
    files, limit = CGROUPS[name]
    second = name.startswith("v2")
    events = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
    stat = "cache 1\ntotal_inactive_file 100\ntotal_active_file 50\n"
    files = {"memory/memory.stat": stat, "memory/memory.oom_control": events, **files}
    if second:
        files["memory.stat"] = "anon 7\ninactive_file 100\nactive_file 50\n"
        files["memory.events"] = "oom 9\noom_kill 3\n"
    for path, text in files.items() if name != "none" else ():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    cgroup = memory.Cgroup(tmp_path)
    assert cgroup.limit == limit
    assert cgroup.kills() == (0 if name == "none" else 3)
    if limit:
        assert (cgroup.used(500), cgroup.used(950)) == (750, 0)


@pytest.mark.parametrize(
    ("pages", "huge", "blamed"),
    [
        ({}, False, ()),
        ({0: 200_000, 1: 3000}, False, (0,)),
        ({0: 3000, 1: 4000}, False, ()),
        ({0: 140_000, 1: 150_000}, False, (0, 1)),
        ({0: 400, 1: 20}, True, (0,)),
        ({0: 400, 1: 5000}, True, (0, 1)),
    ],
)
def test_who_is_blamed_for_a_gibibyte(
    pages: dict[int, int], *, huge: bool, blamed: tuple[int, ...]
) -> None:
    assert memory.blame(pages, 1 << 30, huge=huge) == blamed


def test_a_thread_that_touches_memory_is_seen() -> None:
    slots = memory.Slots(3)
    slots.begin(1)
    pages = 1 << 13
    # New pages: Python's own allocator gives out what earlier tests have touched.
    with mmap.mmap(-1, pages * mmap.PAGESIZE) as eaten:
        eaten.madvise(mmap.MADV_NOHUGEPAGE)
        for page in range(pages):
            eaten[page * mmap.PAGESIZE] = 1
    assert set(slots.pages(os.getpid())) == {1}
    assert slots.pages(os.getpid())[1] >= pages
    slots.end(1)
    assert slots.pages(os.getpid()) == {}
    slots.close()
