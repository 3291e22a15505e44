"""The services that an MLflow server needs: one PostgreSQL and one MinIO, shared by a session.

Where a contract promises MySQL, one of that too. They come up once, in the process that starts the
session. What a worker needs in order to use them is in `ServiceAddresses`, which travels as JSON.
"""

from __future__ import annotations

import secrets
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from http.client import HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3
import docker
import psycopg
import pymysql
from botocore.config import Config
from psycopg import sql
from testcontainers.community.minio import MinioContainer
from testcontainers.community.mysql import MySqlContainer
from testcontainers.community.postgres import PostgresContainer

from seatrial.stack.authority import Authority
from seatrial.stack.waiting import ContainerError, answers_ok, last_lines, until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from docker import DockerClient
    from docker.models.containers import Container
    from mypy_boto3_s3 import S3Client
    from pymysql.connections import Connection as MySqlConnection
    from testcontainers.core.container import DockerContainer

    from seatrial.stack.ownership import Session

LOOPBACK = "127.0.0.1"
REGION = "us-east-1"
ALWAYS = ("postgres", "minio")
"""What every full trial starts."""
MYSQL_USER = "root"
"""The one who may make databases."""
PASSWORD_PATH = "/run/seatrial/password"  # noqa: S105
"""Where a service finds its password: its variables are shown by `docker inspect`."""
START_LIMIT = 90
"""Seconds; services are always native, so nothing scales it."""


def published_port(container: Container, port: int) -> int:
    """The loopback port that `port` of the container is published on; it changes with a restart.

    Raises:
        ContainerError: there is none, as when the container has ended.
    """
    container.reload()
    bindings = container.ports.get(f"{port}/tcp")
    if not bindings:
        raise ContainerError(
            f"{container.name} ({container.status}) publishes no port for its {port}",
            last_lines(container),
        )
    return int(bindings[0]["HostPort"])


class _Postgres(PostgresContainer):
    def _configure(self) -> None:
        super()._configure()
        _by_file(self, "POSTGRES_PASSWORD")

    def _connect(self) -> None:
        container = self.get_wrapped_container()

        def answers() -> bool:
            port = published_port(container, self.port)
            try:
                _connect_postgres(port, self.username, self.password, self.dbname).close()
            except psycopg.Error:
                return False
            return True

        until(answers, container=container, what="accept connections", limit=START_LIMIT)


class _MySql(MySqlContainer):
    def _configure(self) -> None:
        super()._configure()
        _by_file(self, "MYSQL_ROOT_PASSWORD")

    def _connect(self) -> None:
        container = self.get_wrapped_container()

        def answers() -> bool:
            try:
                _connect_mysql(published_port(container, self.port), self.password).close()
            except pymysql.err.MySQLError:
                return False
            return True

        until(answers, container=container, what="accept connections", limit=START_LIMIT)


def _by_file(service: DockerContainer, variable: str) -> None:
    """Give a service the value of a variable by the file `PASSWORD_PATH` in its place."""
    service.env[f"{variable}_FILE"] = PASSWORD_PATH
    # Whoever may read it in there is the service.
    service.with_copy_into_container(service.env.pop(variable).encode(), PASSWORD_PATH, 0o444)


def _connect_postgres(port: int, user: str, password: str, database: str) -> psycopg.Connection:
    return psycopg.connect(
        host=LOOPBACK,
        port=port,
        user=user,
        password=password,
        dbname=database,
        autocommit=True,
        connect_timeout=2,
    )


def _connect_mysql(port: int, password: str, database: str | None = None) -> MySqlConnection:
    return pymysql.connect(
        host=LOOPBACK,
        port=port,
        user=MYSQL_USER,
        password=password,
        database=database,
        autocommit=True,
        connect_timeout=2,
    )


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
    password: str = field(repr=False)
    mysql_port: int | None = None
    """On loopback; None where no contract promises MySQL."""

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
        """The SQLAlchemy URL of database `name` in PostgreSQL, for containers on the network."""
        return f"postgresql+psycopg2://{self.user}:{self.password}@postgres:5432/{name}"

    def mysql_url(self, name: str) -> str:
        """The SQLAlchemy URL of database `name` in MySQL, for containers on the network."""
        return f"mysql+pymysql://{MYSQL_USER}:{self.password}@mysql:3306/{name}"

    def connect_mysql(self, database: str | None = None) -> MySqlConnection:
        """Connect to `database` in MySQL from this host, in autocommit mode."""
        assert self.mysql_port, "MySQL starts where a contract promises it"
        return _connect_mysql(self.mysql_port, self.password, database)

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Connect to `database` from this host, in autocommit mode."""
        return _connect_postgres(self.postgres_port, self.user, self.password, database)

    def s3(self) -> S3Client:
        """An S3 client on this host."""
        return _s3(self.s3_endpoint, self.user, self.password)

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
        """Make a new, empty database in PostgreSQL."""
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def create_role(self, database: str, password: str | None = None) -> str:
        """Make an account that owns `database` alone: its SQLAlchemy URL.

        For a command line, which everybody may see: the password is nobody else's.

        Args:
            database: in PostgreSQL.
            password: one of the caller's; the URL holds it encoded.
        """
        name, word = f"role-{secrets.token_hex(4)}", password or secrets.token_hex(16)
        role = sql.Identifier(name)
        with self.connect() as connection:
            create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(word))
            connection.execute(create)
            give = sql.SQL("ALTER DATABASE {} OWNER TO {}")
            connection.execute(give.format(sql.Identifier(database), role))
        return f"postgresql+psycopg2://{name}:{quote(word, safe='')}@postgres:5432/{database}"

    def create_mysql_database(self, name: str) -> None:
        """Make a new, empty database in MySQL."""
        with self.connect_mysql() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{name}`")

    def create_bucket(self, name: str) -> None:
        """Make a new, empty bucket."""
        self.s3().create_bucket(Bucket=name)


@dataclass(frozen=True)
class SecureStore:
    """S3 over https, with a certificate of an authority that nobody knows."""

    authority: str
    """Its certificate, as PEM."""
    user: str
    password: str = field(repr=False)
    host: str
    """Its name on the network."""
    port: int
    """On loopback."""

    @property
    def endpoint(self) -> str:
        """For containers on the network."""
        return f"https://{self.host}:9000"

    def s3(self, authority: Path) -> S3Client:
        """An S3 client on this host, which trusts the certificates in the file `authority`."""
        return _s3(f"https://{LOOPBACK}:{self.port}", self.user, self.password, verify=authority)


def _s3(endpoint: str, user: str, password: str, *, verify: Path | None = None) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=user,
        aws_secret_access_key=password,
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}),
        verify=str(verify) if verify else None,
    )


class Services:
    """PostgreSQL and MinIO on the network of a session, and MySQL where it has an image."""

    def __init__(self, client: DockerClient, session: Session, images: Mapping[str, str]) -> None:
        """Nothing is started yet.

        Args:
            client: the engine.
            session: whose the containers are; its network exists.
            images: references under the names `postgres` and `minio`, and `mysql` to start that.
        """
        self._client = client
        self._session = session
        self._images = images

    def start(self) -> ServiceAddresses:
        """Start the services side by side, and wait until all answer."""
        user, password = "seatrial", secrets.token_hex(24)
        name = self._session.network
        with ThreadPoolExecutor(3) as pool:
            postgres = pool.submit(self._start_postgres, name, user, password)
            minio = pool.submit(self._start_minio, name, user, password)
            mysql = (
                pool.submit(self._start_mysql, name, password) if "mysql" in self._images else None
            )
            database, store = postgres.result(), minio.result()
            other = mysql.result() if mysql else None
        return ServiceAddresses(
            postgres_port=published_port(database, 5432),
            minio_port=published_port(store, 9000),
            minio_address=store.attrs["NetworkSettings"]["Networks"][name]["IPAddress"],
            user=user,
            password=password,
            mysql_port=published_port(other, 3306) if other else None,
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

    def _start_mysql(self, network: str, password: str) -> Container:
        service = _MySql(
            self._images["mysql"], username=MYSQL_USER, password=password, dbname="seatrial"
        )
        service.ports = {"3306": (LOOPBACK,)}  # type: ignore[dict-item]
        service.with_name(f"{network}-mysql").with_kwargs(**self._options(network, "mysql"))
        return service.start().get_wrapped_container()

    def _start_minio(self, network: str, user: str, password: str) -> Container:
        service = self._minio(f"{network}-minio", "minio", user, password)
        container = service.start().get_wrapped_container()

        def answers() -> bool:
            port = published_port(container, 9000)
            return answers_ok(f"http://{LOOPBACK}:{port}/minio/health/live")

        until(answers, container=container, what="answer on /minio/health/live", limit=START_LIMIT)
        return container

    def start_secure_store(self, host: str, addresses: ServiceAddresses) -> SecureStore:
        """Start another MinIO, which speaks https alone, for the users of the first one.

        Args:
            host: its name on the network, which its certificate has: every process that starts a
                store needs a name of its own.
            addresses: of the first one.

        Raises:
            ContainerError: it is not ready in time.
        """
        authority = Authority.found()
        certificate, key = authority.issue([host, LOOPBACK])
        user, password = addresses.user, addresses.password
        service = self._minio(host, host, user, password)
        service.with_command(["server", "/data", "--address", ":9000", "--certs-dir", "/certs"])
        service.with_copy_into_container(certificate, "/certs/public.crt")
        service.with_copy_into_container(key, "/certs/private.key")
        container = service.start().get_wrapped_container()
        trust = ssl.create_default_context(cadata=authority.pem)

        def answers() -> bool:
            port = published_port(container, 9000)
            with closing(HTTPSConnection(LOOPBACK, port, timeout=10, context=trust)) as connection:
                try:
                    connection.request("GET", "/minio/health/live")
                    return connection.getresponse().status == HTTPStatus.OK
                except OSError:
                    return False

        until(answers, container=container, what="answer over https", limit=START_LIMIT)
        return SecureStore(authority.pem, user, password, host, published_port(container, 9000))

    def _minio(self, name: str, alias: str, user: str, password: str) -> MinioContainer:
        service = MinioContainer(self._images["minio"], access_key=user, secret_key=password)
        # The older names of the same two come with the class.
        service.env = {"MINIO_ROOT_USER": user, "MINIO_ROOT_PASSWORD": password}
        _by_file(service, "MINIO_ROOT_PASSWORD")
        service.ports = {"9000": (LOOPBACK,)}  # type: ignore[dict-item]
        service.with_name(name).with_kwargs(**self._options(self._session.network, alias))
        # The stock strategy does not notice a container that has ended.
        service._wait_strategy = None  # noqa: SLF001
        return service
