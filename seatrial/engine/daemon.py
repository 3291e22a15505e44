"""Starts and stops of the container engine's daemon, also after a daemon that was killed.

With systemd its unit is started. Elsewhere the daemon becomes a background process in its own
session, which outlives the terminal and a Ctrl-C.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import psutil
from docker.errors import DockerException
from requests.exceptions import RequestException
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from seatrial import process
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

SETTINGS: Mapping[str, object] = {"features": {"containerd-snapshotter": True}}

_START_SECONDS = 90
_END_SECONDS = 30
"""The daemon gives containers 15 s to end, unless it is told otherwise."""
_TAIL = 8
_TAIL_BYTES = 16 * 1024


@dataclass(frozen=True)
class Layout:
    """Paths of a daemon."""

    socket: Path = Path("/var/run/docker.sock")
    pidfile: Path = Path("/var/run/docker.pid")
    exec_root: Path = Path("/var/run/docker")
    log: Path = Path("/var/log/seatrial-dockerd.log")
    system_containerd: Path = Path("/run/containerd/containerd.sock")
    """A containerd that is not the daemon's own; the daemon uses it where this file exists."""
    options: tuple[str, ...] = ()
    """Options for dockerd, which refuses an option that its configuration file has as well."""

    @property
    def containerd_pidfile(self) -> Path:
        """Pid file of the containerd that the daemon started."""
        return self.exec_root / "containerd" / "containerd.pid"

    @property
    def containerd_socket(self) -> Path:
        """Socket of the containerd that the daemon started."""
        return self.exec_root / "containerd" / "containerd.sock"

    @classmethod
    def configured(cls, settings: Mapping[str, object] | None) -> Layout:
        """Take the paths that a daemon configuration changes."""
        settings = settings or {}
        default = cls()
        return cls(
            pidfile=Path(str(settings.get("pidfile", default.pidfile))),
            exec_root=Path(str(settings.get("exec-root", default.exec_root))),
        )


def configuration() -> str:
    """Write the text of a configuration, for a machine that has none."""
    return json.dumps(SETTINGS, indent=2) + "\n"


def running(layout: Layout) -> psutil.Process | None:
    """Find the daemon that runs, by its pid file."""
    return _running(layout.pidfile, "dockerd")


def stop_unit() -> None:
    """Stop the daemon with systemd.

    Raises:
        UserError: systemd could not.
    """
    # The socket's unit would start it again at the next request.
    command = ["systemctl", "stop", "docker.socket", "docker.service"]
    result = process.run(command)
    if result.returncode:
        raise UserError(f"`{' '.join(command)}` failed: {result.stderr.strip()}")


def stop(server: psutil.Process) -> None:
    """Stop the daemon, which ends the containerd that it started."""
    _end(server)


def answers(path: Path) -> bool:
    """Tell whether an engine answers at a socket."""
    if not path.exists():
        return False
    try:
        with closing(docker.DockerClient(base_url=f"unix://{path}", timeout=5)) as client:
            return bool(client.ping())
    except (DockerException, RequestException, OSError):
        return False


def start(layout: Layout, *, systemd: bool, seconds: float = _START_SECONDS) -> None:
    """Start the daemon and wait until it answers; does nothing where it answers already.

    Args:
        layout: paths of the daemon.
        systemd: whether systemd runs and keeps services.
        seconds: how long it may take.

    Raises:
        UserError: it ends at once or doesn't answer in time; with the last lines of its log.
    """
    if answers(layout.socket):
        return
    if systemd:
        _start_unit()
        _wait(layout, None, seconds, log=_journal)
        return
    launched: subprocess.Popen[bytes] | None = None
    begin = layout.log.stat().st_size if layout.log.exists() else 0
    if _running(layout.pidfile, "dockerd") is None:
        remove_leftovers(layout)
        launched = _launch(layout)
    # Otherwise another start is under way: only wait for it.
    _wait(layout, launched, seconds, log=lambda: tail(layout.log, begin))


def remove_leftovers(layout: Layout) -> tuple[Path, ...]:
    """Remove files of a killed daemon that would keep the next one from starting.

    - The daemon refuses to start while the process in its pid file is alive, even if that is a
      zombie or another program with the same number.
    - For the same reason it waits for a containerd that isn't there.
    - It prefers the system's containerd wherever a socket exists, even if nothing listens.

    A containerd of the killed daemon that runs and no longer answers is ended. The daemon's own
    socket stays: the next daemon replaces it.

    Returns:
        The files that were removed.
    """
    leftovers = tuple(_leftovers(layout))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


def _leftovers(layout: Layout) -> Iterator[Path]:
    if layout.pidfile.exists() and _running(layout.pidfile, "dockerd") is None:
        yield layout.pidfile
    if layout.containerd_pidfile.exists():
        containerd = _running(layout.containerd_pidfile, "containerd")
        if containerd is None or not _listens(layout.containerd_socket):
            if containerd is not None:
                _end(containerd)
            yield layout.containerd_pidfile
            yield layout.containerd_socket
    if layout.system_containerd.exists() and not _listens(layout.system_containerd):
        yield layout.system_containerd


def _running(pidfile: Path, name: str) -> psutil.Process | None:
    """Find the live process of that name in a pid file."""
    try:
        server = psutil.Process(int(pidfile.read_text()))
        with server.oneshot():
            ended = server.status() == psutil.STATUS_ZOMBIE
            return server if server.name() == name and not ended else None
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _end(server: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        server.terminate()
        if not _ends(server):
            server.kill()
            _ends(server)


def _ends(server: psutil.Process) -> bool:
    """Wait for a process to end; a zombie counts as ended."""

    def ended() -> bool:
        try:
            return not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return _becomes_true(ended, every=0.1, seconds=_END_SECONDS)


def _becomes_true(condition: Callable[[], bool], *, every: float, seconds: float) -> bool:
    retry = Retrying(
        retry=retry_if_result(lambda done: not done),
        retry_error_callback=lambda _: False,
        wait=wait_fixed(every),
        stop=stop_after_delay(seconds),
    )
    return retry(condition)


def _launch(layout: Layout) -> subprocess.Popen[bytes]:
    program = shutil.which("dockerd")
    if program is None:
        raise UserError("dockerd can't be found on PATH, so the engine can't be started")
    layout.log.parent.mkdir(parents=True, exist_ok=True)
    with layout.log.open("ab") as log:
        return subprocess.Popen(
            [program, *layout.options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )


def _start_unit() -> None:
    # After a few failures systemd refuses further starts, also when the cause has been mended.
    process.run(["systemctl", "reset-failed", "docker.service"])
    command = ["systemctl", "start", "docker.service"]
    result = process.run(command)
    if result.returncode:
        raise UserError(f"`{' '.join(command)}` failed: {result.stderr.strip()}{_join(_journal())}")


def _wait(
    layout: Layout,
    launched: subprocess.Popen[bytes] | None,
    seconds: float,
    *,
    log: Callable[[], Sequence[str]],
) -> None:
    def settled() -> bool:
        return answers(layout.socket) or (launched is not None and launched.poll() is not None)

    if not _becomes_true(settled, every=0.2, seconds=seconds):
        raise UserError(
            f"dockerd doesn't answer at {layout.socket} after {seconds:.0f} s{_join(log())}"
        )
    if launched is not None and launched.poll() is not None:
        # The daemon of a concurrent start may answer instead.
        if answers(layout.socket):
            return
        raise UserError(f"dockerd ended with code {launched.returncode}{_join(log())}")


def tail(path: Path, begin: int = 0) -> list[str]:
    """Read the last lines of a log.

    Args:
        path: the file; it need not exist.
        begin: from which byte on; what was there before belongs to an earlier start.
    """
    if not path.exists():
        return []
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(begin, size - _TAIL_BYTES))
        return file.read().decode(errors="replace").splitlines()[-_TAIL:]


def _journal() -> list[str]:
    command = ["journalctl", "--unit=docker.service", f"--lines={_TAIL}", "--output=cat"]
    return process.run(command).stdout.splitlines()


def _join(lines: Sequence[str]) -> str:
    return "".join(f"\n  {line}" for line in lines)
