"""An MLflow server in a container, on stores of its own."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from seatrial.backends.base import DATA_PATH, VOLUME_PATH
from seatrial.stack import services
from seatrial.stack.confinement import confinement
from seatrial.stack.running_server import ImageContainer, RunningServer
from seatrial.stack.settings import FILES_PATH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from docker import DockerClient
    from docker.models.containers import Container

    from seatrial.backends.base import ArtifactStore
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.labels import Session
    from seatrial.stack.services import Services
    from seatrial.stack.settings import ServerSettings


@dataclass(frozen=True)
class Stores:
    """Stores that a server writes to, which outlive it: names that its settings make use of."""

    database: str
    """Name in the service."""
    bucket: str
    """Name in the service."""
    volume: str
    """Volume of the engine, for what no service keeps."""


@dataclass
class MLflowServer(RunningServer):
    """A running (or ended) MLflow server: what tests talk to, and what they look behind."""

    image: ImageUnderTest
    settings: ServerSettings
    stores: Stores
    container: Container
    services: Services | None

    def wait_healthy(self) -> None:
        """Wait for the first answer on /health.

        Raises:
            ContainerError: the container ended, or the time limit is over.
        """
        self.wait_for("/health")

    def post(self, path: str, **options: Any) -> requests.Response:  # noqa: ANN401
        """POST to `path` of the server."""
        return requests.post(f"{self.url}{path}", timeout=30 * self.image.scale, **options)

    def takes_artifacts(self) -> bool:
        """Tell whether an artifact can be sent through the server, in a folder of its own."""
        address = f"{self.url}/api/2.0/mlflow-artifacts/artifacts/seatrial/probe.txt"
        return requests.put(address, data=b"probe", timeout=30 * self.image.scale).ok

    def client_environment(self) -> Mapping[str, str]:
        """Give the variables that an MLflow client on this host needs beside the tracking URI."""
        if self.settings.access == "direct":
            return self._store.client_environment()
        return {}

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Ask the database behind the server; `query` marks its parameters with `?`."""
        database = services.database(self.settings.database, self.services)
        return database.rows(self.stores.database, query, parameters, self.container)

    def object_keys(self, *, containing: str = "") -> list[str]:
        """List what lies in the store behind the server: the keys with `containing` in them."""
        keys = self._store.keys(self.stores.bucket, self.container)
        return [key for key in keys if containing in key]

    def objects(self, *, containing: str = "") -> dict[str, bytes]:
        """The store behind the server: content by key, for keys with `containing` in them."""
        return self._store.objects(self.stores.bucket, self.container, containing=containing)

    @property
    def _store(self) -> ArtifactStore:
        return services.store(self.settings.store, self.services)


def start_server(
    *,
    session: Session,
    image: ImageUnderTest,
    settings: ServerSettings,
    stores: Stores,
    running: Services | None,
    name: str,
) -> MLflowServer:
    """Start a server; it is not waited for.

    Args:
        session: whose the container is.
        image: the image under test.
        settings: the configuration.
        stores: an existing database and bucket, or volume.
        running: the services; needed where `settings` name what one keeps.
        name: of the container.
    """
    environment = dict(settings.environment)
    if settings.command is None:
        # A command line is shown by everything that lists containers or processes.
        environment = {"MLFLOW_BACKEND_STORE_URI": _url(settings, stores, running)} | environment
    options: dict[str, Any] = {"network": session.network}
    if settings.confined:
        options |= confinement(image)
    if settings.user:
        options["user"] = settings.user
    store = services.store(settings.store, running)
    environment = {**store.server_environment(), **environment}
    container = ImageContainer(
        image, session, name, _command(image, settings, store.root(stores.bucket)), **options
    ).with_envs(**environment)
    if settings.needs_volume:
        container.with_volume_mapping(stores.volume, VOLUME_PATH, "rw")
    if settings.files:
        container.with_volume_mapping(files_of(name), FILES_PATH, "ro")
    return MLflowServer(
        image=image,
        settings=settings,
        stores=stores,
        container=container.start().get_wrapped_container(),
        services=running,
    )


def _url(settings: ServerSettings, stores: Stores, running: Services | None) -> str:
    if settings.database_url is not None:
        return settings.database_url
    return services.database(settings.database, running).url(stores.database)


def _command(image: ImageUnderTest, settings: ServerSettings, root: str) -> list[str]:
    if settings.command is not None:
        return list(settings.command)
    artifacts = (
        ["--serve-artifacts", "--artifacts-destination", root]
        if settings.access == "proxied"
        else ["--no-serve-artifacts", "--default-artifact-root", root]
    )
    port = str(image.contract.start.port)
    return [
        *image.server_command,
        *("--host", "0.0.0.0", "--port", port, "--workers", str(image.workers)),  # noqa: S104
        *artifacts,
        *settings.options,
    ]


def files_of(name: str) -> str:
    """The volume with the files that its settings give to the server in the container `name`."""
    return f"{name}-files"


def prepare_volume(
    client: DockerClient, session: Session, image: ImageUnderTest, name: str
) -> None:
    """Make a volume with a folder that any user may write to."""
    folder = tarfile.TarInfo(Path(DATA_PATH).name)
    folder.type, folder.mode = tarfile.DIRTYPE, 0o777
    _fill_volume(client, session, image, name, [(folder, b"")])


def prepare_files(
    client: DockerClient,
    session: Session,
    image: ImageUnderTest,
    name: str,
    files: Mapping[str, bytes],
) -> None:
    """Make a volume with these files, content by path, that any user may read."""
    members = []
    for path, content in files.items():
        member = tarfile.TarInfo(path)
        member.mode, member.size = 0o444, len(content)
        members.append((member, content))
    _fill_volume(client, session, image, name, members)


def _fill_volume(
    client: DockerClient,
    session: Session,
    image: ImageUnderTest,
    name: str,
    members: Iterable[tuple[tarfile.TarInfo, bytes]],
) -> None:
    """A container that is never started gives access to a volume, on remote engines too."""
    client.volumes.create(name, labels=session.labels)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    helper = client.containers.create(
        image.configuration.image_id,
        command=["true"],
        platform=image.platform,
        labels=session.labels,
        volumes={name: {"bind": VOLUME_PATH, "mode": "rw"}},
    )
    try:
        helper.put_archive(VOLUME_PATH, archive.getvalue())
    finally:
        helper.remove(v=True)
