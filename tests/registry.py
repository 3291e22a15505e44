"""A real registry on the loopback: the distribution project's, over TLS and with a password."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trustme

from seatrial.project import current

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_USER, _PASSWORD = "captain", "correct horse"
_USERS = "captain:$2b$04$PW5wVC2OSkl.qGYehBm84uBUtmhkTfCMG6PihBsvfOeBZD86jxpd.\n"
"""The password by bcrypt, which the registry takes alone."""
_SECONDS = 30


@dataclass(frozen=True)
class LocalRegistry:
    """A registry that runs."""

    host: str
    folder: Path
    """Where it keeps everything."""
    process: subprocess.Popen[bytes]

    def again(self) -> AbstractContextManager[LocalRegistry]:
        """Run it once more, with what it has kept."""
        return _run(self.folder, self.host)


def program() -> str:
    """Find the registry; skip where there is none."""
    compiled = current().kept("programs") / "registry"
    if found := shutil.which("registry") or (compiled.is_file() and str(compiled)):
        return found
    pytest.skip("no registry on this machine: `nox -s registry` compiles it, with Go")


@contextmanager
def running(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalRegistry]:
    """Run a registry, whose authority and password this process knows."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    host = f"127.0.0.1:{port}"
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    (folder / "users").write_text(_USERS)
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "content")}},
        "auth": {"htpasswd": {"realm": "harbour", "path": str(folder / "users")}},
        "http": {
            "addr": host,
            "tls": {
                "certificate": str(folder / "certificate.pem"),
                "key": str(folder / "key.pem"),
            },
        },
    }
    (folder / "config.yml").write_text(json.dumps(config))
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(variable, str(folder / "authority.pem"))
    log_in(folder, host, monkeypatch)
    with _run(folder, host) as found:
        yield found


@contextmanager
def _run(folder: Path, host: str) -> Iterator[LocalRegistry]:
    command = [program(), "serve", str(folder / "config.yml")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(host, server, folder / "log")
        yield LocalRegistry(host, folder, server)
    finally:
        server.terminate()
        server.wait()


def log_in(
    folder: Path, host: str, monkeypatch: pytest.MonkeyPatch, password: str = _PASSWORD
) -> None:
    """Keep a password where `docker login` would."""
    kept = base64.b64encode(f"{_USER}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": kept}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))


def _wait(host: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _SECONDS
    name, _, port = host.partition(":")
    while server.poll() is None and time.monotonic() < end:
        with socket.socket() as client:
            client.settimeout(1)
            if not client.connect_ex((name, int(port))):
                return
        time.sleep(0.05)
    pytest.fail(f"the registry does not listen on {host}: {log.read_text()[-500:]}")
