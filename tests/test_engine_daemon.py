"""Starting a daemon over what a killed one left: with real files, sockets and processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from seatrial.engine import daemon
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A daemon that answers as far as the wait asks: /version and /_ping on its socket.
STAND_IN = """\
    #!{python}
    import http.server, json, os, socketserver, sys

    path, pidfile = sys.argv[1:]
    with open(pidfile, "w") as file:
        file.write(str(os.getpid()))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            version = json.dumps({{"ApiVersion": "1.45"}}).encode()
            body = b"OK" if self.path.endswith("/_ping") else version
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self):
            return "socket"

    with socketserver.ThreadingUnixStreamServer(path, Handler) as server:
        server.serve_forever()
    """

FAILS = """\
    #!{python}
    import sys

    sys.exit("unable to configure the Docker daemon: nonsense")
    """


@pytest.fixture
def layout(tmp_path: Path) -> daemon.Layout:
    folder = tmp_path / "run"
    (folder / "exec" / "containerd").mkdir(parents=True)
    return daemon.Layout(
        socket=folder / "docker.sock",
        pidfile=folder / "docker.pid",
        exec_root=folder / "exec",
        log=tmp_path / "log" / "dockerd.log",
        system_containerd=folder / "containerd.sock",
        options=(str(folder / "docker.sock"), str(folder / "docker.pid")),
    )


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a script in the place of dockerd."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(text: str) -> None:
        script = folder / "dockerd"
        script.write_text(textwrap.dedent(text).format(python=sys.executable))
        script.chmod(0o755)

    return write


@contextmanager
def process(name: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that has a name of our choice."""
    executable = folder / name
    shutil.copy("/bin/sleep", executable)
    with subprocess.Popen([executable, "60"]) as running:
        yield running
        running.kill()


@contextmanager
def listener(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield


def stale_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def end(pidfile: Path) -> None:
    running = psutil.Process(int(pidfile.read_text()))
    running.kill()
    running.wait()


def test_nothing_to_sweep_on_a_fresh_machine(layout: daemon.Layout) -> None:
    assert daemon.remove_leftovers(layout) == ()


@pytest.mark.parametrize("text", ["", "no number", "4194304\n"])
def test_pid_file_of_no_process_is_swept(layout: daemon.Layout, text: str) -> None:
    layout.pidfile.write_text(text)
    assert daemon.remove_leftovers(layout) == (layout.pidfile,)
    assert not layout.pidfile.exists()


def test_pid_file_whose_number_a_stranger_got_is_swept(layout: daemon.Layout) -> None:
    layout.pidfile.write_text(str(os.getpid()))
    layout.containerd_pidfile.write_text(str(os.getpid()))
    daemon.remove_leftovers(layout)
    assert not layout.pidfile.exists()
    assert not layout.containerd_pidfile.exists()


def test_pid_file_of_a_zombie_is_swept(layout: daemon.Layout, tmp_path: Path) -> None:
    with process("dockerd", tmp_path) as running:
        layout.pidfile.write_text(str(running.pid))
        running.send_signal(signal.SIGKILL)
        # Waits for the end without reaping, so that a zombie stays.
        os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
        assert daemon.remove_leftovers(layout) == (layout.pidfile,)


def test_pid_file_of_a_running_daemon_stays(layout: daemon.Layout, tmp_path: Path) -> None:
    with process("dockerd", tmp_path) as running:
        layout.pidfile.write_text(str(running.pid))
        assert daemon.remove_leftovers(layout) == ()
        assert layout.pidfile.exists()


def test_containerd_that_answers_stays(layout: daemon.Layout, tmp_path: Path) -> None:
    with process("containerd", tmp_path) as running, listener(layout.containerd_socket):
        layout.containerd_pidfile.write_text(str(running.pid))
        assert daemon.remove_leftovers(layout) == ()
        assert running.poll() is None


def test_containerd_that_is_deaf_is_ended_and_swept(layout: daemon.Layout, tmp_path: Path) -> None:
    with process("containerd", tmp_path) as running:
        stale_socket(layout.containerd_socket)
        layout.containerd_pidfile.write_text(str(running.pid))
        assert daemon.remove_leftovers(layout) == (
            layout.containerd_pidfile,
            layout.containerd_socket,
        )
        assert running.poll() == -signal.SIGTERM


def test_system_containerd_is_swept_only_when_nobody_listens(layout: daemon.Layout) -> None:
    with listener(layout.system_containerd):
        assert daemon.remove_leftovers(layout) == ()
    assert daemon.remove_leftovers(layout) == (layout.system_containerd,)


def test_start_waits_until_the_daemon_answers(
    layout: daemon.Layout, program: Callable[[str], None]
) -> None:
    program(STAND_IN)
    layout.pidfile.write_text(str(os.getpid()))
    daemon.start(layout, systemd=False, seconds=20)
    try:
        assert daemon.answers(layout.socket)
        started = psutil.Process(int(layout.pidfile.read_text()))
        assert started.terminal() is None
        assert os.getsid(started.pid) == started.pid
        daemon.start(layout, systemd=False, seconds=20)
        assert psutil.Process(int(layout.pidfile.read_text())) == started
    finally:
        end(layout.pidfile)


def test_start_that_fails_shows_this_start_s_last_lines(
    layout: daemon.Layout, program: Callable[[str], None]
) -> None:
    program(FAILS)
    layout.log.parent.mkdir()
    layout.log.write_text("a line of an earlier start\n")
    with pytest.raises(UserError) as error:
        daemon.start(layout, systemd=False, seconds=20)
    assert str(error.value) == (
        "dockerd ended with code 1\n  unable to configure the Docker daemon: nonsense"
    )


def test_start_gives_up_on_a_daemon_that_does_not_answer(
    layout: daemon.Layout, tmp_path: Path
) -> None:
    with process("dockerd", tmp_path) as running:
        layout.pidfile.write_text(str(running.pid))
        with pytest.raises(UserError, match=r"doesn't answer at .*docker\.sock after 0 s"):
            daemon.start(layout, systemd=False, seconds=0.3)


def test_start_without_the_program(
    layout: daemon.Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="dockerd can't be found"):
        daemon.start(layout, systemd=False)


def test_configuration_switches_the_containerd_store_on() -> None:
    assert json.loads(daemon.configuration()) == {"features": {"containerd-snapshotter": True}}


def test_tail_takes_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert daemon.tail(path) == []
    path.write_text("".join(f"line {number}\n" for number in range(100)))
    assert daemon.tail(path)[-1] == "line 99"
    assert daemon.tail(path, path.stat().st_size) == []


def test_layout_follows_the_configuration() -> None:
    moved = daemon.Layout.configured({"exec-root": "/srv/run", "pidfile": "/srv/pid"})
    assert moved.containerd_pidfile == Path("/srv/run/containerd/containerd.pid")
    assert moved.pidfile == Path("/srv/pid")
    assert daemon.Layout.configured(None) == daemon.Layout()
