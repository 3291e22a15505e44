"""The services that MLflow servers need, shared by a session: one of each that a trial uses.

They come up once, in the process that starts the session. What a worker needs in order to use them
travels as JSON.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import docker

from seatrial import backends
from seatrial.backends.base import ArtifactStore, Backend, Database, ServiceAddress
from seatrial.engine.ports import published_port

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import DockerClient
    from docker.models.containers import Container
    from testcontainers.core.container import DockerContainer

    from seatrial.stack.labels import Session

_Backend = TypeVar("_Backend", bound=Backend)


@dataclass(frozen=True)
class Services:
    """Services that run."""

    addresses: Mapping[str, ServiceAddress]
    """Addresses by the name of the backend."""

    @classmethod
    def from_json(cls, value: Mapping[str, Mapping[str, Any]]) -> Self:
        """Read what `as_json` wrote."""
        return cls({name: ServiceAddress(**address) for name, address in value.items()})

    def as_json(self) -> dict[str, Any]:
        """Write the services as JSON, for a worker."""
        return {name: asdict(address) for name, address in self.addresses.items()}

    def of(self, backend_class: type[_Backend]) -> _Backend:
        """The backend of that class, for what only it can do.

        Raises:
            ValueError: it was not started.
        """
        found = backend_class(self.addresses.get(backends.entry_of(backend_class).name))
        _ = found.address
        return found


def database(name: str, services: Services | None) -> Database:
    """The database of that name; only those in a service need services."""
    return cast("Database", _backend(name, services))


def store(name: str, services: Services | None) -> ArtifactStore:
    """The store of that name; only those in a service need services."""
    return cast("ArtifactStore", _backend(name, services))


def _backend(name: str, services: Services | None) -> Backend:
    addresses = services.addresses if services else {}
    return backends.entry(name).load()(addresses.get(name))


def service_of(backend_class: type[Backend]) -> str:
    """The service of the catalogue that a backend runs in."""
    service = backends.entry_of(backend_class).service
    assert service, f"{backend_class.__name__} has no service"
    return service


class ServiceStarter:
    """Starts services on the network of a session."""

    def __init__(self, client: DockerClient, session: Session, images: Mapping[str, str]) -> None:
        """Nothing is started yet.

        Args:
            client: the engine.
            session: whose the containers are; its network exists.
            images: references, by the service's name in the catalogue.
        """
        self._client = client
        self._session = session
        self._images = images

    def start(self) -> Services:
        """Start a service for each image, side by side, and wait until all answer.

        Raises:
            ContainerError: one is not ready in time.
        """
        password = secrets.token_hex(24)
        used = [entry for entry in backends.ENTRIES if entry.service in self._images]
        with ThreadPoolExecutor(max(1, len(used))) as pool:
            starts = {entry.name: pool.submit(self._started, entry, password) for entry in used}
            return Services({name: start.result() for name, start in starts.items()})

    def start_secured(self, backend_class: type[_Backend], host: str, users: _Backend) -> _Backend:
        """Start another service of a backend, which speaks TLS alone.

        Args:
            backend_class: the class of the backend.
            host: its name on the network, which its certificate has: every process that starts one
                needs a name of its own.
            users: the plain one, whose accounts it has too.

        Raises:
            ContainerError: it is not ready in time.
        """
        service, authority = backend_class.secured(
            self._image_of(backend_class), host, users.address
        )
        port = published_port(self._run(service, name=host, alias=host), backend_class.PORT)
        return backend_class(replace(users.address, port=port, host=host, authority=authority))

    def start_alone(self, backend_class: type[Backend], host: str, password: str) -> Container:
        """Start another service of a backend, for a test that harms it; the test removes it.

        Args:
            backend_class: the class of the backend.
            host: its name on the network.
            password: of its account.

        Raises:
            ContainerError: it is not ready in time.
        """
        return self._run(
            backend_class.container(self._image_of(backend_class), password), name=host, alias=host
        )

    def _image_of(self, backend_class: type[Backend]) -> str:
        return self._images[service_of(backend_class)]

    def _started(self, entry: backends.BackendEntry, password: str) -> ServiceAddress:
        assert entry.service
        backend, network = entry.load(), self._session.network
        service = backend.container(self._images[entry.service], password)
        container = self._run(service, name=f"{network}-{entry.service}", alias=entry.service)
        return ServiceAddress(
            port=published_port(container, backend.PORT),
            host=container.attrs["NetworkSettings"]["Networks"][network]["IPAddress"],
            user=backend.USER,
            password=password,
        )

    def _run(self, service: DockerContainer, *, name: str, alias: str) -> Container:
        network = self._session.network
        service.with_name(name).with_kwargs(
            labels=self._session.labels,
            network=network,
            networking_config={
                network: docker.types.EndpointConfig(self._client.api.api_version, aliases=[alias])
            },
        )
        return service.start().get_wrapped_container()
