"""The services that an MLflow server needs: one PostgreSQL and one MinIO, shared by a session.

They come up once, in the process that starts the session. What a worker needs in order to use them
is in `ServiceAddresses`, which travels as JSON.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import boto3
import docker
import psycopg
from botocore.config import Config
from psycopg import sql
from testcontainers.community.minio import MinioContainer
from testcontainers.community.postgres import PostgresContainer

from seatrial.stack.waiting import answers_ok, until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import DockerClient
    from docker.models.containers import Container
    from mypy_boto3_s3 import S3Client

    from seatrial.stack.ownership import Session

LOOPBACK = "127.0.0.1"
REGION = "us-east-1"
START_LIMIT = 90
"""Seconds; services are always native, so nothing scales it."""


def published_port(container: Container, port: int) -> int:
    """The loopback port that `port` of the container is published on; it changes with a restart."""
    container.reload()
    bindings = container.ports[f"{port}/tcp"] or []
    return int(bindings[0]["HostPort"])


class _Postgres(PostgresContainer):
    def _connect(self) -> None:
        container = self.get_wrapped_container()

        def answers() -> bool:
            port = published_port(container, self.port)
            try:
                psycopg.connect(
                    host=LOOPBACK,
                    port=port,
                    user=self.username,
                    password=self.password,
                    dbname=self.dbname,
                    connect_timeout=2,
                ).close()
            except psycopg.OperationalError:
                return False
            return True

        until(answers, container=container, what="accept connections", limit=START_LIMIT)


@dataclass(frozen=True)
class ServiceAddresses:
    """Where the services are, for clients on this host and for containers on the network."""

    postgres_port: int
    """On loopback."""
    minio_port: int
    """On loopback."""
    minio_address: str
    """The container's own address on the network."""
    user: str
    password: str

    def as_json(self) -> dict[str, Any]:
        """For a worker; `ServiceAddresses(**value)` reads it."""
        return asdict(self)

    @property
    def s3_endpoint(self) -> str:
        """S3 for clients on this host."""
        return f"http://{LOOPBACK}:{self.minio_port}"

    @property
    def s3_endpoint_everywhere(self) -> str:
        """S3 under one address for both, where this host routes to the network (Linux engines)."""
        return f"http://{self.minio_address}:9000"

    def database_url(self, name: str) -> str:
        """The SQLAlchemy URL of database `name`, for containers on the network."""
        return f"postgresql+psycopg2://{self.user}:{self.password}@postgres:5432/{name}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Connect to `database` from this host, in autocommit mode."""
        return psycopg.connect(
            host=LOOPBACK,
            port=self.postgres_port,
            user=self.user,
            password=self.password,
            dbname=database,
            autocommit=True,
        )

    def s3(self) -> S3Client:
        """An S3 client on this host."""
        return boto3.client(
            "s3",
            endpoint_url=self.s3_endpoint,
            aws_access_key_id=self.user,
            aws_secret_access_key=self.password,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}),
        )

    def client_environment(self) -> dict[str, str]:
        """What an MLflow client on this host needs to reach the store directly."""
        return self._s3_environment(self.s3_endpoint)

    def server_environment(self) -> dict[str, str]:
        """What an MLflow server on the network needs to reach the store.

        It names the address that clients can reach too, because presigned URLs carry it.
        """
        return self._s3_environment(self.s3_endpoint_everywhere)

    def _s3_environment(self, endpoint: str) -> dict[str, str]:
        return {
            "MLFLOW_S3_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": self.user,
            "AWS_SECRET_ACCESS_KEY": self.password,
            "AWS_DEFAULT_REGION": REGION,
        }

    def create_database(self, name: str) -> None:
        """Make a new, empty database."""
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def create_bucket(self, name: str) -> None:
        """Make a new, empty bucket."""
        self.s3().create_bucket(Bucket=name)


class Services:
    """PostgreSQL and MinIO on the network of a session."""

    def __init__(self, client: DockerClient, session: Session, images: Mapping[str, str]) -> None:
        """Nothing is started yet.

        Args:
            client: the engine.
            session: whose the containers are; its network exists.
            images: references under the names `postgres` and `minio`.
        """
        self._client = client
        self._session = session
        self._images = images

    def start(self) -> ServiceAddresses:
        """Start both services side by side, and wait until both answer."""
        user, password = "seatrial", f"pass-{self._session.id}"
        name = self._session.network
        with ThreadPoolExecutor(2) as pool:
            postgres = pool.submit(self._start_postgres, name, user, password)
            minio = pool.submit(self._start_minio, name, user, password)
            database, store = postgres.result(), minio.result()
        return ServiceAddresses(
            postgres_port=published_port(database, 5432),
            minio_port=published_port(store, 9000),
            minio_address=store.attrs["NetworkSettings"]["Networks"][name]["IPAddress"],
            user=user,
            password=password,
        )

    def _options(self, network: str, alias: str) -> dict[str, Any]:
        return {
            "labels": self._session.labels,
            "network": network,
            "networking_config": {
                network: docker.types.EndpointConfig(self._client.api.api_version, aliases=[alias])
            },
        }

    def _start_postgres(self, network: str, user: str, password: str) -> Container:
        service = _Postgres(
            self._images["postgres"], username=user, password=password, dbname=user, driver=None
        )
        service.ports = {"5432": (LOOPBACK,)}  # type: ignore[dict-item]
        service.with_name(f"{network}-postgres").with_kwargs(**self._options(network, "postgres"))
        return service.start().get_wrapped_container()

    def _start_minio(self, network: str, user: str, password: str) -> Container:
        service = MinioContainer(self._images["minio"], access_key=user, secret_key=password)
        service.with_envs(MINIO_ROOT_USER=user, MINIO_ROOT_PASSWORD=password)
        service.ports = {"9000": (LOOPBACK,)}  # type: ignore[dict-item]
        service.with_name(f"{network}-minio").with_kwargs(**self._options(network, "minio"))
        # The stock strategy does not notice a container that has ended.
        service._wait_strategy = None  # noqa: SLF001
        container = service.start().get_wrapped_container()

        def answers() -> bool:
            port = published_port(container, 9000)
            return answers_ok(f"http://{LOOPBACK}:{port}/minio/health/live")

        until(answers, container=container, what="answer on /minio/health/live", limit=START_LIMIT)
        return container
