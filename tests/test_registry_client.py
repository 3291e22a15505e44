"""What a registry that means harm gets: nothing is sent elsewhere, and nothing wrong is taken."""

from __future__ import annotations

import base64
import io
import json
import os
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from seatrial.errors import UserError
from seatrial.registry import authentication
from seatrial.registry.attaching import MOST_DOCUMENTS, attached
from seatrial.registry.client import INDEX, LARGEST_MANIFEST, MANIFEST, Repository, manifest_of
from seatrial.registry.copying import copy
from seatrial.registry.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DIGEST = "sha256:" + "0" * 64


class Hostile(ThreadingHTTPServer):
    """A registry whose every answer a test chooses."""

    answer: Callable[[BaseHTTPRequestHandler], tuple[int, dict[str, str], bytes]]
    seen: list[tuple[str, str]]
    """Path and `Authorization` of each request."""

    @property
    def repository(self) -> Repository:
        """A repository of it."""
        return Repository(Reference(f"127.0.0.1:{self.server_port}", "harbour/mlflow"), push=True)


class _Handler(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        server = self.server
        assert isinstance(server, Hostile)
        length = int(self.headers.get("Content-Length", 0))
        self.rfile.read(length)
        server.seen.append((self.path, self.headers.get("Authorization", "")))
        status, headers, body = server.answer(self)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests clean."""


@contextmanager
def hostile(
    answer: Callable[[BaseHTTPRequestHandler], tuple[int, dict[str, str], bytes]],
) -> Iterator[Hostile]:
    """Run such a registry, on the loopback and without TLS."""
    server = Hostile(("127.0.0.1", 0), _Handler)
    server.answer, server.seen = answer, []
    # As `docker login` leaves it.
    kept = {"auth": base64.b64encode(b"captain:secret").decode()}
    config = {"auths": {f"127.0.0.1:{server.server_port}": kept}}
    (Path(os.environ["DOCKER_CONFIG"]) / "config.json").write_text(json.dumps(config))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


@pytest.mark.parametrize(
    "realm",
    [
        "https://evil.example/token",
        "http://evil.example/token",
        "https://127.0.0.1.evil.example/token",
        "file:///etc/passwd",
        "http://captain@evil.example/",
    ],
)
def test_password_goes_to_no_other_domain(realm: str) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'}
    with hostile(lambda _: (401, challenge, b"")) as server, closing(server.repository) as there:
        with pytest.raises(UserError, match="nothing is sent there"):
            there.manifest("latest")
        assert [authorization for _, authorization in server.seen] == [""]


def test_token_of_the_registry_itself_is_used() -> None:
    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if request.path.startswith("/token"):
            return 200, {}, b'{"token": "t0ken"}'
        if request.headers.get("Authorization") == "Bearer t0ken":
            return 200, {"Content-Type": INDEX}, b'{"manifests": []}'
        realm = f"http://{request.headers['Host']}/token"
        return 401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'}, b""

    with hostile(answer) as server, closing(server.repository) as there:
        assert there.manifest("latest") == manifest_of(b'{"manifests": []}', INDEX)
        paths = [path for path, _ in server.seen]
        assert "scope=repository%3Aharbour%2Fmlflow%3Apull%2Cpush" in paths[1]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ((200, {"Content-Type": INDEX}, b"{}"), "the registry gave sha256:"),
        ((200, {"Content-Type": INDEX}, b" " * (LARGEST_MANIFEST + 2)), "larger than 4 MiB"),
        ((302, {"Location": "http://evil.example/"}, b""), "leads to http://evil.example/"),
        ((302, {"Location": "file:///etc/passwd"}, b""), "leads to file:///etc/passwd"),
        ((302, {"Location": "http://[x"}, b""), "not to the end: ValueError"),
        ((401, {"WWW-Authenticate": 'Bearer realm="http://[x"'}, b""), "no address"),
        ((401, {"WWW-Authenticate": "Bearer"}, b""), "an unknown authentication"),
        ((401, {"WWW-Authenticate": "\xff\x1b[2J"}, b""), "an unknown authentication"),
        ((401, {}, b""), "an unknown authentication"),
        ((200, {"Content-Type": INDEX, "Content-Length": "99"}, b"{}"), "not to the end"),
        ((200, {"Content-Encoding": "gzip"}, b"{}"), "not to the end"),
        ((403, {}, b""), "refuses this user: run `docker login"),
        ((500, {}, b"\x1b[2Jgone"), "the registry says 500"),
    ],
)
def test_answer_that_is_not_what_was_asked_for(
    answer: tuple[int, dict[str, str], bytes], fault: str
) -> None:
    with hostile(lambda _: answer) as server, closing(server.repository) as there:
        with pytest.raises(UserError, match=fault) as error:
            there.manifest(DIGEST)
        assert str(error.value).isprintable()


def test_redirect_without_an_end() -> None:
    with (
        hostile(lambda request: (302, {"Location": request.path}, b"")) as server,
        closing(server.repository) as there,
    ):
        with pytest.raises(UserError, match="the registry says 302"):
            there.manifest(DIGEST)
        assert len(server.seen) < 10


def test_blob_is_sent_to_no_other_host() -> None:
    elsewhere = {"Location": "http://127.0.0.1:1/take"}
    with (
        hostile(lambda _: (202, elsewhere, b"")) as server,
        closing(server.repository) as there,
        pytest.raises(UserError, match="wants blobs sent to http://127"),
    ):
        there.push_blob(DIGEST, 1, io.BytesIO(b"x"))


@pytest.mark.parametrize("content", [b"shor", b"longer", b"other"])
def test_blob_that_is_another_is_not_passed_on(content: bytes) -> None:
    blob = manifest_of(b"right", "")
    with hostile(lambda _: (200, {}, content)) as server, closing(server.repository) as there:
        for _, stream in there.blobs({blob.digest: 5}):
            with pytest.raises(UserError, match="not what its digest says"):
                _ = b"".join(iter(stream.read, b""))


def _manifests(count: int) -> bytes:
    return json.dumps({"manifests": [{"digest": DIGEST, "size": 1}] * count}).encode()


@pytest.mark.parametrize(
    ("content", "media_type", "fault"),
    [
        (b"[]", INDEX, "no manifest, but something else"),
        (b"{", INDEX, "no manifest, but something else"),
        (_manifests(101), INDEX, "it has 101 parts"),
        (b'{"manifests": [{"digest": "sha256:../../x", "size": 1}]}', INDEX, "without digest"),
        (b'{"manifests": [1]}', INDEX, "without digest or size"),
        (b'{"layers": []}', MANIFEST, "without digest or size"),
        (b"{}", "text/html", "text/html is no image"),
    ],
)
def test_image_that_is_none(content: bytes, media_type: str, fault: str) -> None:
    root = manifest_of(content, media_type)
    with (
        hostile(lambda _: (200, {"Content-Type": media_type}, content)) as server,
        closing(server.repository) as there,
        pytest.raises(UserError, match=fault),
    ):
        copy(there, root.digest, there)


@pytest.mark.parametrize(
    ("host", "realm", "right"),
    [
        ("ghcr.io", "https://ghcr.io/token", True),
        ("registry.gitlab.com", "https://gitlab.com/jwt/auth", True),
        ("docker.io", "https://auth.docker.io/token", True),
        ("harbour.example:5000", "https://harbour.example/token", True),
        ("ghcr.io", "http://ghcr.io/token", False),
        ("ghcr.io", "https://io/token", False),
        ("ghcr.io", "https://evil-ghcr.io/token", False),
        ("registry.co.uk", "https://evil.co.uk/token", False),
        ("docker.io", "https://evil.docker.io.example/token", False),
        ("ghcr.io", "http://127.0.0.1/token", False),
        ("ghcr.io", "https://ghcr.io@evil.example/token", False),
    ],
)
def test_place_of_a_token(
    monkeypatch: pytest.MonkeyPatch, host: str, realm: str, *, right: bool
) -> None:
    asked: list[str] = []

    def get(url: str, **_: Any) -> Any:
        asked.append(url)
        raise requests.ConnectionError

    monkeypatch.setattr("seatrial.registry.authentication.requests.get", get)
    with pytest.raises(UserError, match="does not answer" if right else "nothing is sent there"):
        authentication.header(f'Bearer realm="{realm}"', host, "harbour/mlflow", "pull")
    assert asked == ([realm] if right else [])


def test_attachments_without_an_end() -> None:
    listed = {"manifests": [{"artifactType": "a/b"}] * (MOST_DOCUMENTS + 1)}
    with (
        hostile(lambda _: (200, {"Content-Type": INDEX}, json.dumps(listed).encode())) as server,
        closing(server.repository) as there,
        pytest.raises(UserError, match=f"more than {MOST_DOCUMENTS} are attached"),
    ):
        attached(there, DIGEST, "a/b")


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        (
            {"subject": {"digest": "sha256:1"}, "layers": [{"digest": DIGEST, "size": 1}]},
            "attached to",
        ),
        ({"subject": {"digest": DIGEST}, "layers": []}, "no attachment with one document"),
        (
            {"subject": {"digest": DIGEST}, "layers": [{"digest": DIGEST, "size": 1 << 40}]},
            "larger",
        ),
        ({"layers": 1}, "no attachment"),
    ],
)
def test_attachment_that_is_none(document: dict[str, Any], fault: str) -> None:
    content = json.dumps(document).encode()
    manifest = manifest_of(content, MANIFEST)
    listed = {"manifests": [{**manifest.descriptor, "artifactType": "a/b"}]}

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if "/referrers/" in request.path:
            return 200, {"Content-Type": INDEX}, json.dumps(listed).encode()
        return 200, {"Content-Type": MANIFEST}, content

    with (
        hostile(answer) as server,
        closing(server.repository) as there,
        pytest.raises(UserError, match=fault),
    ):
        attached(there, DIGEST, "a/b")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "UPPER/x:1",
        "x y",
        "http://x/y",
        "a/b@sha256:1",
        "a/b:",
        "../x",
        "a//b",
        "a/b:x/y",
        "-/x",
    ],
)
def test_no_reference(text: str) -> None:
    with pytest.raises(UserError, match="no image reference"):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("x", "docker.io/library/x"),
        ("seatrial/custom:latest", "docker.io/seatrial/custom:latest"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
        (f"ghcr.io/a/b@{DIGEST}", f"ghcr.io/a/b@{DIGEST}"),
        (f"ghcr.io/a/b:1@{DIGEST}", f"ghcr.io/a/b:1@{DIGEST}"),
    ],
)
def test_reference(text: str, whole: str) -> None:
    assert str(Reference.parse(text)) == whole
