"""A package index that asks for a password, in a container of its own."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import randbelow, token_hex
from typing import TYPE_CHECKING

import pytest
import requests
from testcontainers.core.container import DockerContainer

from seatrial.stack.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seatrial.trial.state import Trial

DISTRIBUTION = "seatrial-private"
PORT = 8000
LIMIT = 30
"""Seconds until it answers."""

SERVE = """
import base64, http.server, json, os, sys
password = os.environ["INDEX_PASSWORD"]
name, wheel = json.loads(sys.argv[1])
expected = "Basic " + base64.b64encode(f"team:{password}".encode()).decode()
pages = {
    "/simple/seatrial-private/": ("text/html", f'<a href="/{name}">{name}</a>'.encode()),
    f"/{name}": ("application/zip", base64.b64decode(wheel)),
}

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        allowed = self.headers.get("Authorization") == expected
        kind, body = pages.get(self.path, ("text/plain", b""))
        self.send_response(401 if not allowed else 200 if body else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if allowed else 0))
        if not allowed:
            self.send_header("WWW-Authenticate", "Basic")
        self.end_headers()
        if allowed and self.command == "GET":
            self.wfile.write(body)
    do_HEAD = do_GET

http.server.ThreadingHTTPServer(("", int(sys.argv[2])), Handler).serve_forever()
"""


@dataclass(frozen=True)
class Index:
    """A running index."""

    host: str
    password: str = field(repr=False)
    version: str
    """Of its package: one that no cache has."""

    @property
    def url(self) -> str:
        """As it is given to uv and pip."""
        return f"http://team:{self.password}@{self.host}:{PORT}/simple"


@contextmanager
def private_index(trial: Trial) -> Iterator[Index]:
    """Start an index whose only package is `DISTRIBUTION`, where builds of the engine reach it."""
    subject, password, version = trial.tracking[0], token_hex(16), f"1.{randbelow(10**9)}"
    name = f"{DISTRIBUTION.replace('-', '_')}-{version}-py3-none-any.whl"
    said = json.dumps([name, base64.b64encode(_wheel(version)).decode()])
    server = (
        DockerContainer(subject.configuration.image_id)
        .with_name(trial.fresh_name("index"))
        .with_command(["-c", SERVE, said, str(PORT)])
        .with_env("INDEX_PASSWORD", password)
        .with_kwargs(
            entrypoint=[subject.contract.start.interpreter],
            labels=trial.session.labels,
            network_mode="bridge",  # that of the builder's steps
            platform=subject.platform,
        )
    )
    with server:
        container = server.get_wrapped_container()
        container.reload()
        host = container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        index = Index(host, password, version)
        until(
            lambda: _asks_for_a_password(host),
            container=container,
            what=f"the private index at {host}",
            limit=LIMIT,
        )
        yield index


def _asks_for_a_password(host: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False  # a proxy knows nothing of this network
        try:
            return session.get(f"http://{host}:{PORT}/simple/", timeout=5).status_code == 401
        except requests.ConnectTimeout:
            pytest.skip(f"containers can't be reached from here at {host}: runs where they can")
        except requests.ConnectionError:
            return False


def _wheel(version: str) -> bytes:
    info = f"{DISTRIBUTION.replace('-', '_')}-{version}.dist-info"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("seatrial_private.py", "ANSWER = 42\n")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return content.getvalue()
