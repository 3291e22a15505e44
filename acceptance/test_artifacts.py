"""Artifacts, byte for byte: through the server, and straight to the store."""

from __future__ import annotations

import hashlib
import http.client
import random
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import mlflow
import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from seatrial.backends.minio import MinIO

from .comparisons import assert_equal
from .refused_requests import refused

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from seatrial.stack.server import MLflowServer
    from seatrial.stack.services import Services
    from seatrial.trial.fixtures import ClientFor, NewRun

MIB = 1024 * 1024
LARGE = "large.bin"
TREE = {
    "note.txt": b"plain text\n",
    "empty.bin": b"",
    "spaces and (brackets) + plus.txt": b"a name that a URL has to quote",
    "größe/数値/🚢 ship.txt": "non-ASCII: größe 数値 🚢".encode(),
    "deep/er/and/deeper/still/leaf.json": b'{"leaf": true}',
    "bytes.bin": bytes(range(256)) * 64,
}


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _assert_same(place: str, found: bytes, written: bytes) -> None:
    """Compare size and checksum: pytest would spell out megabytes that differ."""
    assert len(found) == len(written), (
        f"{place} has {len(found)} bytes; the client wrote {len(written)}"
    )
    assert _checksum(found) == _checksum(written), (
        f"{place} has as many bytes as the client wrote, {len(written)}, but others"
    )


def _checksums_below(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): _checksum(path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def large() -> bytes:
    """Content of 64 MiB that doesn't compress, the same in every run."""
    return random.Random(20_260_101).randbytes(64 * MIB)


@pytest.fixture
def large_file(large: bytes, tmp_path: Path) -> Path:
    """The large content on this machine's disk."""
    path = tmp_path / LARGE
    path.write_bytes(large)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The tree on this machine's disk."""
    folder = tmp_path / "tree"
    for name, content in TREE.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def _stored(server: MLflowServer, run_id: str) -> dict[str, bytes]:
    """Look behind the server: content of the run's artifacts in the store, by path."""
    marker = f"{run_id}/artifacts/"
    return {
        key.partition(marker)[2]: content
        for key, content in server.objects(containing=marker).items()
    }


def _store(server: MLflowServer) -> str:
    """Name where the server's artifacts lie, for messages."""
    return {"s3": "bucket", "file": "volume"}.get(server.settings.store, server.settings.store)


class StoreTests:
    """Tests of both kinds of access to the store, which the classes below choose as `target`."""

    @pytest.fixture
    def client(self, target: MLflowServer, client_for: ClientFor) -> MlflowClient:
        return client_for(target)

    @pytest.fixture
    def run_id(self, client: MlflowClient, new_run: NewRun) -> str:
        return new_run(client)

    def test_tree_comes_back_byte_for_byte(
        self, client: MlflowClient, run_id: str, tree: Path, tmp_path: Path, target: MLflowServer
    ) -> None:
        client.log_artifacts(run_id, str(tree), "tree")
        back = Path(client.download_artifacts(run_id, "tree", str(tmp_path)))
        expected = {name: _checksum(content) for name, content in TREE.items()}
        assert_equal(
            "the folder (checksum by path) that the client downloads after it logged it",
            _checksums_below(back),
            expected,
        )
        stored = {
            path.removeprefix("tree/"): _checksum(content)
            for path, content in _stored(target, run_id).items()
        }
        assert_equal(
            f"the folder (checksum by path) in the {_store(target)} that the client logged",
            stored,
            expected,
        )

    def test_listing(self, client: MlflowClient, run_id: str, tree: Path) -> None:
        client.log_artifacts(run_id, str(tree))
        # The server leaves the size 0 out of its answer, as it does the size of a folder.
        top = {
            entry.path: (entry.is_dir, entry.file_size or 0)
            for entry in client.list_artifacts(run_id)
        }
        files = {name: (False, len(content)) for name, content in TREE.items() if "/" not in name}
        folders = {name.partition("/")[0]: (True, 0) for name in TREE if "/" in name}
        assert_equal(
            "the listing (folder or not, and size, by path) that the client gets of what it logged",
            top,
            files | folders,
        )
        below = client.list_artifacts(run_id, "größe/数値")
        assert_equal(
            "the listing that the client gets of a folder of one file",
            [entry.path for entry in below],
            ["größe/数値/🚢 ship.txt"],
        )
        nothing = client.list_artifacts(run_id, "not/there")
        assert nothing == [], f"the client's listing of a folder that isn't there holds {nothing}"

    def test_partial_download(
        self, client: MlflowClient, run_id: str, tree: Path, tmp_path: Path
    ) -> None:
        client.log_artifacts(run_id, str(tree))
        part = tmp_path / "part"
        part.mkdir()
        folder = Path(client.download_artifacts(run_id, "deep/er", str(part)))
        assert_equal(
            "the set of files in the folder that the client downloads",
            set(_checksums_below(folder)),
            {"and/deeper/still/leaf.json"},
        )
        came = sorted(_checksums_below(part))
        assert len(came) == 1, f"the client asked for a folder of one file, and {came} came down"
        file = client.download_artifacts(run_id, "größe/数値/🚢 ship.txt", str(part))
        assert_equal(
            "the file that the client downloads alone",
            Path(file).read_bytes(),
            TREE["größe/数値/🚢 ship.txt"],
        )
        with refused("the download of a file that isn't there", match=r"not-there\.txt"):
            client.download_artifacts(run_id, "not-there.txt", str(part))

    def test_overwriting_replaces(
        self, client: MlflowClient, run_id: str, target: MLflowServer
    ) -> None:
        client.log_text(run_id, "a first text, longer than the second", "note.txt")
        client.log_text(run_id, "second", "note.txt")
        assert_equal(
            "the text that the client reads of a file that it wrote twice",
            mlflow.artifacts.load_text(f"runs:/{run_id}/note.txt"),
            "second",
        )
        assert_equal(
            f"the content of the run in the {_store(target)}, after a file was written twice,",
            _stored(target, run_id),
            {"note.txt": b"second"},
        )

    def test_deletion(
        self, client: MlflowClient, run_id: str, tree: Path, target: MLflowServer
    ) -> None:
        client.log_artifacts(run_id, str(tree))
        repository = get_artifact_repository(client.get_run(run_id).info.artifact_uri)
        repository.delete_artifacts("deep")
        repository.delete_artifacts("note.txt")
        left = {name for name in TREE if not name.startswith("deep/") and name != "note.txt"}
        assert_equal(
            f"the set of files in the {_store(target)}, after a file and a folder were deleted,",
            set(_stored(target, run_id)),
            left,
        )
        listed = {entry.path for entry in client.list_artifacts(run_id)}
        assert "deep" not in listed, f"the client deleted the folder 'deep', and lists {listed}"

    def test_large_file(
        self, client: MlflowClient, run_id: str, large_file: Path, target: MLflowServer
    ) -> None:
        large, folder = large_file.read_bytes(), large_file.parent / "back"
        client.log_artifact(run_id, str(large_file), "weights")
        back = Path(client.download_artifacts(run_id, f"weights/{LARGE}", str(folder)))
        _assert_same("the large file that the client downloads", back.read_bytes(), large)
        stored = _stored(target, run_id).get(f"weights/{LARGE}", b"")
        _assert_same(f"the large file in the {_store(target)}", stored, large)


@pytest.mark.promise("server.capabilities", "artifacts")
@pytest.mark.promise("server.artifact_access", "proxied")
class TestProxied(StoreTests):
    """Clients that send artifacts to the server, which alone knows the store."""

    @pytest.fixture
    def target(self, server: MLflowServer) -> MLflowServer:
        return server

    def test_client_needs_no_store(self, client: MlflowClient, run_id: str) -> None:
        uri = client.get_run(run_id).info.artifact_uri
        assert uri.startswith("mlflow-artifacts:"), (
            f"the server sends the client's artifacts to {uri}, and not through itself"
        )


@pytest.mark.promise("server.capabilities", "artifacts")
@pytest.mark.promise("server.artifact_access", "direct")
class TestDirect(StoreTests):
    """Clients that talk to S3 themselves; the server only gives the address."""

    @pytest.fixture
    def target(self, direct_server: MLflowServer) -> MLflowServer:
        return direct_server

    def test_client_is_sent_to_the_bucket(
        self, client: MlflowClient, run_id: str, target: MLflowServer
    ) -> None:
        uri = client.get_run(run_id).info.artifact_uri
        bucket = f"s3://{target.stores.bucket}/"
        assert uri.startswith(bucket), (
            f"the server sends the client's artifacts to {uri}, and not straight to {bucket}"
        )


@pytest.mark.promise("server.artifact_stores", "s3")
def test_store_is_the_bucket(
    s3_server: MLflowServer, client_for: ClientFor, new_run: NewRun
) -> None:
    assert s3_server.settings.store == "s3", (
        f"the trial is at fault: the server before S3 has the store {s3_server.settings.store!r}"
    )
    client = client_for(s3_server)
    run_id = new_run(client)

    client.log_text(run_id, "in the bucket", "note.txt")

    found = list(s3_server.objects(containing=run_id).values())
    assert found == [b"in the bucket"], f"the client logged one text; the bucket holds {found}"


@pytest.mark.promise("server.artifact_stores", "file")
def test_store_is_the_volume(
    embedded_server: MLflowServer, client_for: ClientFor, new_run: NewRun
) -> None:
    store = embedded_server.settings.store
    assert store == "file", f"the trial is at fault: the embedded server has the store {store!r}"
    client = client_for(embedded_server)
    run_id = new_run(client)

    client.log_text(run_id, "in the volume", "note.txt")

    found = list(embedded_server.objects(containing=run_id).values())
    assert found == [b"in the volume"], f"the client logged one text; the volume holds {found}"


PART = 5 * MIB
"""The smallest part that S3 takes."""
PROXIED_MULTIPART = {
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true",
    "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": str(PART),
    "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(PART),
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "true",
    "MLFLOW_MULTIPART_DOWNLOAD_MINIMUM_FILE_SIZE": str(PART),
    "MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE": str(PART),
}
"""Variables of a client that sends and fetches what is larger than a part in parts."""


@pytest.fixture
def _route_to_minio(services: Services) -> None:
    """Skip where this host can't send parts to the store itself."""
    try:
        socket.create_connection((services.of(MinIO).address.host, MinIO.PORT), timeout=3).close()
    except OSError as error:
        pytest.skip(f"this host has no route to the containers' network ({error}): runs on Linux")


def _parts(server: MLflowServer, services: Services, run_id: str) -> tuple[str, int]:
    """Read the key of the run's only object, and the number of its parts, which its ETag holds."""
    keys = server.object_keys(containing=run_id)
    assert len(keys) == 1, f"the client logged one file, and the bucket holds {keys} of its run"
    [key] = keys
    s3 = services.of(MinIO).client()
    etag = s3.head_object(Bucket=server.stores.bucket, Key=key)["ETag"].strip('"')
    return key, int(etag.partition("-")[2] or 1)


@pytest.mark.promise("server.multipart", "proxied")
@pytest.mark.usefixtures("_route_to_minio")
def test_proxied_upload_in_parts(
    s3_server: MLflowServer,
    services: Services,
    large_file: Path,
    client_for: ClientFor,
    new_run: NewRun,
) -> None:
    """The server hands out presigned URLs, and the client sends the parts to the store."""
    client = client_for(s3_server, **PROXIED_MULTIPART)
    run_id, large = new_run(client), large_file.read_bytes()

    client.log_artifact(run_id, str(large_file))
    back = client.download_artifacts(run_id, LARGE, str(large_file.parent / "back"))

    key, parts = _parts(s3_server, services, run_id)
    expected = -(-len(large) // PART)
    assert parts == expected, f"{key} was written in {parts} parts, not in the client's {expected}"
    stored = s3_server.objects(containing=run_id)[key]
    _assert_same("the object in the bucket", stored, large)
    _assert_same("the file that the client downloads", Path(back).read_bytes(), large)


@pytest.mark.promise("server.multipart", "direct")
def test_direct_upload_in_parts(
    direct_client: MlflowClient,
    direct_server: MLflowServer,
    services: Services,
    large_file: Path,
    new_run: NewRun,
) -> None:
    run_id, large = new_run(direct_client), large_file.read_bytes()

    # The parts are boto3's, of 8 MiB: MLflow's thresholds don't reach it.
    direct_client.log_artifact(run_id, str(large_file))

    key, parts = _parts(direct_server, services, run_id)
    assert parts > 1, f"the client wrote {len(large)} bytes to {key} in the bucket in one part"
    stored = direct_server.objects(containing=run_id)[key]
    _assert_same("the object in the bucket", stored, large)


ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
# No path has a backslash: in a Linux container it separates nothing, it is part of a name.
ESCAPES = [
    "../../../../../../etc/passwd",
    "..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "..%252f..%252f..%252f..%252fetc%252fpasswd",
    "%2fetc%2fpasswd",
    "a/..%2f..%2f..%2f..%2fetc%2fpasswd",
    "file:%2f%2f%2fetc%2fpasswd",
]


def _raw(
    server: MLflowServer, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    """Send a request as it stands: ordinary clients tidy up a path before they send it."""
    parts = urlsplit(server.url)
    limit = 60 * server.image.scale
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=limit)
    try:
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class PathTraversal:
    """Tests of every store behind the proxy, which the classes below choose as `target`."""

    @pytest.mark.parametrize("escape", ESCAPES)
    def test_reading(self, target: MLflowServer, escape: str) -> None:
        for path in (
            f"{ARTIFACTS}/{escape}",
            f"{ARTIFACTS}?path={escape}",
            f"{ARTIFACTS}?path={escape.removesuffix('passwd')}",
        ):
            status, body = _raw(target, "GET", path)
            assert b"root:" not in body, f"GET {path} gives the container's /etc/passwd away"
            assert status >= 400, (
                f"GET {path}, whose path leads out of the {_store(target)}, was answered with"
                f" {status} instead of 4xx: {body[:200]!r}"
            )

    @pytest.mark.parametrize("escape", ESCAPES)
    def test_writing(self, target: MLflowServer, escape: str) -> None:
        name = f"written-{secrets.token_hex(4)}"
        path = f"{ARTIFACTS}/{escape.replace('passwd', name)}"
        status, body = _raw(target, "PUT", path, b"written outside")
        assert status >= 400, (
            f"PUT {path}, whose path leads out of the {_store(target)}, was answered with {status}"
            f" instead of 4xx: {body[:200]!r}"
        )
        stored = target.object_keys(containing=name)
        assert not stored, (
            f"PUT {path} was answered with {status}, and stored in the {_store(target)} as {stored}"
        )

    @pytest.mark.parametrize("escape", ESCAPES)
    def test_deleting(self, target: MLflowServer, escape: str) -> None:
        path = f"{ARTIFACTS}/{escape.replace('passwd', 'not-there')}"
        status, body = _raw(target, "DELETE", path)
        # Flask answers two slashes in a row with a redirect to one: no success either.
        assert status >= 300, (
            f"DELETE {path}, whose path leads out of the {_store(target)}, was answered with"
            f" {status}, as if it were allowed: {body[:200]!r}"
        )

    def test_from_a_run(self, target: MLflowServer, client_for: ClientFor, new_run: NewRun) -> None:
        client = client_for(target)
        run_id = new_run(client)
        client.log_text(run_id, "inside", "note.txt")
        for escape in ESCAPES:
            path = f"/get-artifact?run_uuid={run_id}&path={escape}"
            status, body = _raw(target, "GET", path)
            assert b"root:" not in body, f"GET {path} gives the container's /etc/passwd away"
            assert status >= 400, (
                f"GET {path}, whose path leads out of the {_store(target)}, was answered with"
                f" {status} instead of 4xx: {body[:200]!r}"
            )


@pytest.mark.promise("server.refuses_path_traversal")
@pytest.mark.promise("server.artifact_stores", "s3")
class TestNoWayOutOfTheBucket(PathTraversal):
    """S3, where a key with dots would lead to another folder once somebody downloads it."""

    @pytest.fixture
    def target(self, s3_server: MLflowServer) -> MLflowServer:
        return s3_server


@pytest.mark.promise("server.refuses_path_traversal")
@pytest.mark.promise("server.artifact_stores", "file")
class TestNoWayOutOfTheVolume(PathTraversal):
    """A volume, where the database and the image's own files lie beside the artifacts."""

    @pytest.fixture
    def target(self, embedded_server: MLflowServer) -> MLflowServer:
        return embedded_server
