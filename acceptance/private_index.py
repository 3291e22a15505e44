"""A package index that asks for a password, in a container of its own."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import randbelow, token_hex
from typing import TYPE_CHECKING

import pytest
import requests
from testcontainers.core.container import DockerContainer

from seatrial.engine.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seatrial.trial.session import TrialSession

DISTRIBUTION = "seatrial-private"
"""A distribution that is there as a wheel."""
CURIOUS = "seatrial-curious"
"""A distribution that is there as a source, whose build writes down all that it can see."""
PORT = 8000
LIMIT = 30
"""Seconds until the index answers."""

SERVE = """
import base64, http.server, json, os, sys
password = os.environ["INDEX_PASSWORD"]
files = json.loads(sys.argv[1])
expected = "Basic " + base64.b64encode(f"team:{password}".encode()).decode()
pages = {}
for distribution, (name, content) in files.items():
    link = f'<a href="/{name}">{name}</a>'.encode()
    pages[f"/simple/{distribution}/"] = ("text/html", link)
    pages[f"/{name}"] = ("application/octet-stream", base64.b64decode(content))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        allowed = self.headers.get("Authorization") == expected
        content_type, body = pages.get(self.path, ("text/plain", b""))
        self.send_response(401 if not allowed else 200 if body else 404)
        self.send_header("Content-Type", content_type)
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
class PrivateIndex:
    """A running index."""

    host: str
    password: str = field(repr=False)
    version: str
    """The version of its packages, which no cache has."""

    @property
    def url(self) -> str:
        """The URL of the index for uv and pip, with the password."""
        return f"http://team:{self.password}@{self.host}:{PORT}/simple"


@contextmanager
def start_index(trial: TrialSession) -> Iterator[PrivateIndex]:
    """Start an index of `DISTRIBUTION` and `CURIOUS` that the engine's builds reach."""
    image, password, version = trial.tracking[0], token_hex(16), f"1.{randbelow(10**9)}"
    files = {
        DISTRIBUTION: (f"seatrial_private-{version}-py3-none-any.whl", _wheel(version)),
        CURIOUS: (f"seatrial_curious-{version}.tar.gz", _source(version)),
    }
    encoded = {
        distribution: (name, base64.b64encode(content).decode())
        for distribution, (name, content) in files.items()
    }
    server = (
        DockerContainer(image.configuration.image_id)
        .with_name(trial.fresh_name("index"))
        .with_command(["-c", SERVE, json.dumps(encoded), str(PORT)])
        .with_env("INDEX_PASSWORD", password)
        .with_kwargs(
            entrypoint=[image.contract.start.interpreter],
            labels=trial.session.labels,
            network_mode="bridge",  # the network of a build's steps
            platform=image.platform,
        )
    )
    with server:
        container = server.get_wrapped_container()
        container.reload()
        host = container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        index = PrivateIndex(host, password, version)
        until(
            lambda: _asks_for_a_password(host),
            container=container,
            action=f"ask for a password at {host}",
            limit=LIMIT * image.scale,
        )
        yield index


def _asks_for_a_password(host: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False  # a proxy has no route to this network
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


_SETUP = """
import glob, json, os
from setuptools import setup

places = ("/run/secrets/*", "/proc/*/environ", "/lists/**", "/etc/pip.conf", "/root/**")
files = {}
for path in sorted({path for place in places for path in glob.glob(place, recursive=True)}):
    try:
        with open(path, errors="replace") as file:
            files[path] = file.read()
    except OSError:
        continue
found = {
    "user": os.getuid(),
    "environment": dict(os.environ),
    "interfaces": os.listdir("/sys/class/net"),
    "files": files,
}
with open("seatrial_curious.py", "w") as module:
    module.write(f"FOUND = {json.dumps(found)!r}\\n")
setup(name="seatrial-curious", version="VERSION", py_modules=["seatrial_curious"])
"""


def _source(version: str) -> bytes:
    folder, content = f"seatrial_curious-{version}", io.BytesIO()
    files = {
        "setup.py": _SETUP.replace("VERSION", version),
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {CURIOUS}\nVersion: {version}\n",
    }
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()
