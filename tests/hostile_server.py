"""A tracking server that attacks whoever downloads a model from it."""

from __future__ import annotations

import http.server
import json
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_PIECE = b"x" * 65536


class Misdeed(NamedTuple):
    """What such a server does, and a part of the line that refuses it."""

    name: str
    refusal: str
    location: str | int = "mlflow-artifacts:/1/artifacts"
    """Location of the run's artifacts; `{foreign}`, `{url}` and `{host}` stand for the trap's,
    `{self}` for the server's own host and port."""
    listing: Callable[[str], list[dict[str, Any]]] = lambda _: [_entry("MLmodel")]
    """The files of a folder."""
    endless: bool = False
    """True if files do not end."""
    redirect: str = ""
    """Redirect of everything but its health."""
    fault: str = ""
    """What it answers instead of the run."""


def _entry(path: str, *, folder: bool = False) -> dict[str, Any]:
    return {"path": path, "is_dir": folder, "file_size": 10}


def _list(*paths: str) -> Callable[[str], list[dict[str, Any]]]:
    return lambda _: [_entry("MLmodel"), *map(_entry, paths)]


MISDEEDS = (
    Misdeed("a name above the folder", "Invalid path", listing=_list("../../escaped")),
    Misdeed("a name from the root", "Invalid path", listing=_list("/tmp/escaped")),
    Misdeed("a name that is encoded", "Invalid path", listing=_list("%2e%2e/escaped")),
    Misdeed("a name that is empty", "outside its folder", listing=_list("a//b")),
    Misdeed(
        "folders without an end",
        "folders in one another",
        listing=lambda _: [_entry("MLmodel"), _entry("deeper", folder=True)],
    ),
    Misdeed(
        "files without an end",
        "has more than 20000 files",
        listing=lambda _: [_entry(str(number)) for number in range(20_002)],
    ),
    Misdeed("a file without an end", "File too large", endless=True),
    Misdeed("this machine's files", "on this machine", location="file://{foreign}"),
    Misdeed("this machine's files by a path", "on this machine", location="{foreign}"),
    Misdeed("another server", "credentials would be sent there", location="{url}" + ARTIFACTS),
    Misdeed(
        "another server of artifacts",
        "credentials would be sent there",
        location="mlflow-artifacts://{host}/1/artifacts",
    ),
    Misdeed("a file server", "credentials would be sent there", location="sftp://{host}/x"),
    Misdeed("an old file server", "credentials would be sent there", location="ftp://{host}/x"),
    Misdeed("a cluster", "credentials would be sent there", location="hdfs://{host}/x"),
    Misdeed("a store that names its host", "credentials would", location="r2://b@{host}/x"),
    Misdeed(
        "another server before a backslash",
        "credentials would be sent there",
        location="{url}\\@{self}" + ARTIFACTS,
    ),
    Misdeed(
        "another server of artifacts before a backslash",
        "credentials would be sent there",
        location="mlflow-artifacts://{host}\\@{self}/1/artifacts",
    ),
    Misdeed(
        "another protocol of the same host",
        "credentials would be sent there",
        location="https://{self}" + ARTIFACTS,
    ),
    Misdeed("words that paint a terminal", "cannot be had: X: ab c?d", fault="a\x1b[2Jb\nc\x9bd"),
    Misdeed("a place that is no text", "cannot be had: Failed to parse", location=5),
    Misdeed("itself once more", "one model after another", location="runs:/0123/model"),
    Misdeed("another address", "is not followed", redirect="{url}"),
)


def serve(misdeed: Misdeed, foreign: str, url: str) -> http.server.ThreadingHTTPServer:
    """Make the server; it is not started yet."""

    def filled(text: str) -> str:
        host = url.removeprefix("http://")
        own = f"127.0.0.1:{server.server_port}"
        text = text.replace("{foreign}", foreign).replace("{self}", own)
        return text.replace("{url}", url).replace("{host}", host)

    def run() -> dict[str, Any]:
        return {
            "info": {
                "run_id": "0123",
                "run_uuid": "0123",
                "experiment_id": "1",
                "status": "FINISHED",
                "start_time": 1,
                "lifecycle_stage": "active",
                "artifact_uri": filled(misdeed.location)
                if isinstance(misdeed.location, str)
                else misdeed.location,
            },
            "data": {},
        }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            if misdeed.redirect:
                self._answer(302, b"", ("Location", filled(misdeed.redirect) + self.path))
            elif address.path == "/health":
                self._answer(200, b"OK")
            elif address.path.endswith("/runs/get") and misdeed.fault:
                words = json.dumps({"error_code": "X", "message": misdeed.fault})
                self._answer(400, words.encode())
            elif address.path.endswith("/runs/get"):
                self._json({"run": run()})
            elif address.path.rstrip("/") == ARTIFACTS:
                folder = parse_qs(address.query).get("path", [""])[0]
                self._json({"files": misdeed.listing(folder)})
            elif address.path.startswith(ARTIFACTS):
                self._file()
            else:
                self._answer(404, b"{}")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self._json({"models": []})

        def _file(self) -> None:
            self.send_response(200)
            self.end_headers()
            for piece in _pieces(endless=misdeed.endless):
                try:
                    self.wfile.write(piece)
                except (BrokenPipeError, ConnectionResetError):
                    return

        def _json(self, value: object) -> None:
            self._answer(200, json.dumps(value).encode())

        def _answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
            self.send_response(status)
            for name, value in (*headers, ("Content-Length", str(len(body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    return server


def _pieces(*, endless: bool) -> Iterator[bytes]:
    """Bounded all the same: a reader without a limit would fill the disk."""
    for _ in range(4096 if endless else 0):
        yield _PIECE
