"""MinIO: a store that speaks S3, over http or https."""

from __future__ import annotations

import ssl
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPSConnection
from typing import TYPE_CHECKING

import boto3
import trustme
from botocore.config import Config

from seatrial.backends.base import Answering, ArtifactStore, described
from seatrial.engine.ports import LOOPBACK
from seatrial.engine.waiting import answers_ok

if TYPE_CHECKING:
    from pathlib import Path

    from docker.models.containers import Container
    from mypy_boto3_s3 import S3Client
    from testcontainers.core.container import DockerContainer

    from seatrial.backends.base import ServiceAddress

REGION = "us-east-1"
_LIVE = "/minio/health/live"


class MinIO(ArtifactStore):
    """A server of MinIO."""

    PORT = 9000

    @classmethod
    def container(cls, image: str, password: str) -> DockerContainer:
        """Describe the container of its service, which answers once it is started."""

        def answers(port: int) -> bool:
            return answers_ok(f"http://{LOOPBACK}:{port}{_LIVE}")

        return (
            _described(image, cls.USER, password)
            .with_command(["server", "/data"])
            .waiting_for(Answering(cls.PORT, answers, f"answer on {_LIVE}"))
        )

    @classmethod
    def secured(cls, image: str, host: str, users: ServiceAddress) -> tuple[DockerContainer, str]:
        """Describe the container of a service that speaks https alone."""
        authority = trustme.CA()
        certificate = authority.issue_cert(host, LOOPBACK)
        pem = authority.cert_pem.bytes().decode()
        trust = ssl.create_default_context(cadata=pem)

        def answers(port: int) -> bool:
            with closing(HTTPSConnection(LOOPBACK, port, timeout=10, context=trust)) as connection:
                try:
                    connection.request("GET", _LIVE)
                    return connection.getresponse().status == HTTPStatus.OK
                except OSError:
                    return False

        chain = b"".join(certificate_pem.bytes() for certificate_pem in certificate.cert_chain_pems)
        service = (
            _described(image, users.user, users.password)
            .with_command(["server", "/data", "--certs-dir", "/certs"])
            .with_copy_into_container(chain, "/certs/public.crt")
            .with_copy_into_container(certificate.private_key_pem.bytes(), "/certs/private.key")
            .waiting_for(Answering(cls.PORT, answers, "answer over https"))
        )
        return service, pem

    @property
    def endpoint(self) -> str:
        """S3 for clients on this host."""
        return f"{self._scheme}://{LOOPBACK}:{self.address.port}"

    @property
    def endpoint_everywhere(self) -> str:
        """S3 under one address for both, where this host routes to the network (Linux engines)."""
        return f"{self._scheme}://{self.address.host}:{self.PORT}"

    def client(self, trust: Path | None = None) -> S3Client:
        """An S3 client on this host.

        Args:
            trust: a file with the certificates of authorities, where it is to trust others than
                the public ones.
        """
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.address.user,
            aws_secret_access_key=self.address.password,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}),
            verify=str(trust) if trust else None,
        )

    def create(self, name: str) -> None:
        """Make a new, empty bucket."""
        self.client().create_bucket(Bucket=name)

    def root(self, name: str) -> str:
        """The URI of a bucket."""
        return f"s3://{name}"

    def client_environment(self) -> dict[str, str]:
        """Give the variables by which an MLflow client on this host reaches the store directly."""
        return self._environment(self.endpoint)

    def server_environment(self) -> dict[str, str]:
        """Give the variables by which an MLflow server on the network reaches the store.

        It names the address that clients can reach too, because presigned URLs carry it.
        """
        return self._environment(self.endpoint_everywhere)

    def keys(self, name: str, server: Container) -> list[str]:  # noqa: ARG002
        """List what lies in a bucket."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=name)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def objects(self, name: str, server: Container, *, containing: str) -> dict[str, bytes]:
        """Content by key, for keys with `containing` in them."""
        s3 = self.client()
        return {
            key: s3.get_object(Bucket=name, Key=key)["Body"].read()
            for key in self.keys(name, server)
            if containing in key
        }

    @property
    def _scheme(self) -> str:
        return "https" if self.address.authority else "http"

    def _environment(self, endpoint: str) -> dict[str, str]:
        return {
            "MLFLOW_S3_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": self.address.user,
            "AWS_SECRET_ACCESS_KEY": self.address.password,
            "AWS_DEFAULT_REGION": REGION,
        }


def _described(image: str, user: str, password: str) -> DockerContainer:
    return described(
        image,
        MinIO.PORT,
        {"MINIO_ROOT_USER": user},
        variable="MINIO_ROOT_PASSWORD",
        password=password,
    )
