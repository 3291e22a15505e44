"""S3 over https, with a certificate authority that the server's environment names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from requests import HTTPError

from seatrial.backends.minio import MinIO
from seatrial.engine.waiting import until
from seatrial.stack.settings import FILES_PATH

from .comparisons import assert_equal
from .refused_requests import refused

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from seatrial.stack.server import MLflowServer
    from seatrial.stack.services import Services
    from seatrial.stack.settings import ServerSettings
    from seatrial.trial.fixtures import ClientFor, Launch, NewRun
    from seatrial.trial.pool import ServerPool

    from .factories import NewStores

pytestmark = pytest.mark.promise("server.tls", "s3")

AUTHORITY = "authority.pem"
CONTENT = bytes(range(256)) * 4096
"""1 MiB: more than one TLS record, and than one read of a socket."""


@dataclass(frozen=True)
class Secure:
    """A store behind https, and servers that keep artifacts there."""

    s3: S3Client
    """The client of this host."""
    settings: ServerSettings
    """Settings with the authority's certificate in a file, which no variable names yet."""
    new_stores: NewStores
    launch: Launch

    def start_server(self, **trust: str) -> MLflowServer:
        """Start a server on a new bucket, with the variables in `trust`."""
        settings = self.settings.with_environment(**trust)
        stores = self.new_stores(settings)
        self.s3.create_bucket(Bucket=stores.bucket)
        return self.launch(settings, stores=stores)

    def objects(self, server: MLflowServer) -> dict[str, bytes]:
        """Look behind `server`: content by key."""
        bucket = server.stores.bucket
        listed = self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        keys = [entry["Key"] for entry in listed]
        return {key: self.s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


@pytest.fixture
def secure(
    servers: ServerPool,
    services: Services,
    s3_server: MLflowServer,
    new_stores: NewStores,
    launch: Launch,
    tmp_path: Path,
) -> Secure:
    """A store behind https, and the settings of the shared server before S3, changed to it."""
    assert services, "the trial is at fault: a server before S3 is there without a store"
    store = servers.secured(MinIO)
    file = tmp_path / AUTHORITY
    file.write_text(store.address.authority, encoding="ascii")
    settings = replace(
        s3_server.settings, name="tls", files=((AUTHORITY, store.address.authority),)
    ).with_environment(MLFLOW_S3_ENDPOINT_URL=store.endpoint_everywhere)
    return Secure(store.client(file), settings, new_stores, launch)


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_artifacts_go_to_s3_over_https(
    secure: Secure,
    variable: str,
    client_for: ClientFor,
    new_run: NewRun,
    tmp_path: Path,
) -> None:
    """Boto3 reads these two variables; it does not read OpenSSL's SSL_CERT_FILE."""
    source = tmp_path / "data.bin"
    source.write_bytes(CONTENT)
    server = secure.start_server(**{variable: f"{FILES_PATH}/{AUTHORITY}"})
    # With downloads in parts, the client asks the store itself, whose name this host can't resolve.
    client = client_for(server, MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD="false")
    run = new_run(client)

    client.log_artifact(run, str(source), "folder")
    fetched = mlflow.artifacts.download_artifacts(
        run_id=run, artifact_path="folder/data.bin", dst_path=str(tmp_path / "fetched")
    )

    assert_equal("the file that the client reads back", Path(fetched).read_bytes(), CONTENT)
    stored = secure.objects(server)
    assert len(stored) == 1, f"the client logged one file, and the bucket holds {sorted(stored)}"
    [key] = stored
    assert key.endswith(f"{run}/artifacts/folder/data.bin"), (
        f"the client's file folder/data.bin of the run {run} lies in the bucket under {key}"
    )
    assert_equal("the object in the bucket that the client wrote", stored[key], CONTENT)


def test_an_unknown_authority_is_refused(
    secure: Secure, client_for: ClientFor, new_run: NewRun
) -> None:
    """An upload that works without the variable would mean that nothing is verified."""
    server = secure.start_server()
    client = client_for(server)
    run = new_run(client)

    with refused(
        "an upload to a store whose certificate's authority is unknown",
        errors=(MlflowException, HTTPError),
    ):
        client.log_text(run, "to whom?", "note.txt")

    stored = sorted(secure.objects(server))
    assert not stored, (
        f"the server did not verify the certificate of its store: the bucket holds {stored}"
    )
    until(
        lambda: "CERTIFICATE_VERIFY_FAILED" in server.logs(1000),
        container=server.container,
        action="log that the certificate can't be verified",
        limit=10 * server.image.scale,
    )
