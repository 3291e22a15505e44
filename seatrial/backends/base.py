"""Interface of a backend: a database, a store of artifacts, and the container of either."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from testcontainers.core.container import DockerContainer
from testcontainers.core.waiting_utils import WaitStrategy

from seatrial.engine.machine_speed import MACHINE_SPEED
from seatrial.engine.ports import LOOPBACK, published_port
from seatrial.engine.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from docker.models.containers import Container
    from testcontainers.core.waiting_utils import WaitStrategyTarget

VOLUME_PATH = "/seatrial"
"""Path of the volume, in a server, with what no service keeps."""
DATA_PATH = f"{VOLUME_PATH}/data"
PASSWORD_PATH = "/run/seatrial/password"  # noqa: S105
"""Path of a service's password: its variables are shown by `docker inspect`."""
START_LIMIT = 90
"""Seconds on an idle machine; services are always native."""
USER = "seatrial"
"""The account that services are started with, unless they insist on another."""


@dataclass(frozen=True)
class ServiceAddress:
    """Address of a service, for clients on this host and for containers on the network."""

    port: int
    """Port on loopback."""
    host: str
    """Host on the network: the container's own address, or the name that its certificate has."""
    user: str
    password: str = field(repr=False)
    authority: str = ""
    """The certificate of the authority that signed its own, as PEM; empty without TLS."""


class DatabaseConnection(Protocol):
    """Connection of any driver (PEP 249)."""

    def close(self) -> None:
        """End it."""


class Backend(ABC):
    """Database or store, as a trial uses it."""

    PORT: ClassVar[int]
    """Port of the service in its container."""
    USER: ClassVar[str] = USER

    def __init__(self, address: ServiceAddress | None = None) -> None:
        """Nothing is connected.

        Args:
            address: of its service; None where it has none.
        """
        self._address = address

    @property
    def address(self) -> ServiceAddress:
        """Give the address of its service.

        Raises:
            ValueError: it has not been started.
        """
        if self._address is None:
            raise ValueError(f"{type(self).__name__} is used, and its service was not started")
        return self._address

    @classmethod
    def container(cls, image: str, password: str) -> DockerContainer:
        """Describe the container of its service, which answers once it is started."""
        raise NotImplementedError(f"{cls.__name__} has no service")

    @classmethod
    def secured(cls, image: str, host: str, users: ServiceAddress) -> tuple[DockerContainer, str]:
        """Describe the container of a service that speaks TLS alone.

        Args:
            image: its reference.
            host: its name on the network, which its certificate has.
            users: of the plain one; this one has the same.

        Returns:
            the container, and the certificate of its authority as PEM.
        """
        raise NotImplementedError(f"{cls.__name__} is not tried over TLS")

    @staticmethod
    @contextmanager
    def frozen(service: Container) -> Iterator[None]:
        """Pause the processes of a service: it takes connections, and answers nothing.

        Args:
            service: its container, which belongs to the caller alone.
        """
        service.pause()
        try:
            yield
        finally:
            service.unpause()

    @abstractmethod
    def create(self, name: str) -> None:
        """Make a new, empty database or bucket."""


class Database(Backend):
    """Keeps runs."""

    @abstractmethod
    def url(self, name: str) -> str:
        """The SQLAlchemy URL of a database, for containers on the network."""

    @abstractmethod
    def rows(
        self, name: str, query: str, parameters: Sequence[object], server: Container
    ) -> list[tuple[Any, ...]]:
        """Ask a database from this host, past the server.

        Args:
            name: of the database.
            query: marks its parameters with `?`.
            parameters: one for each mark.
            server: the container that has the volume, where the database is a file.
        """


class ArtifactStore(Backend):
    """Keeps artifacts."""

    @abstractmethod
    def root(self, name: str) -> str:
        """The URI of what a server keeps in a bucket."""

    @abstractmethod
    def server_environment(self) -> Mapping[str, str]:
        """Give the variables by which a server on the network reaches it."""

    @abstractmethod
    def client_environment(self) -> Mapping[str, str]:
        """Give the variables by which a client on this host reaches it past the server."""

    @abstractmethod
    def keys(self, name: str, server: Container) -> list[str]:
        """List what lies in a bucket.

        Args:
            name: of the bucket.
            server: the container that has the volume, where artifacts are files.
        """

    @abstractmethod
    def objects(self, name: str, server: Container, *, containing: str) -> dict[str, bytes]:
        """Content by key, for keys with `containing` in them."""


class Answering(WaitStrategy):
    """Waits until a service answers; its end ends the wait, with its last log lines."""

    def __init__(self, port: int, answers: Callable[[int], bool], action: str) -> None:
        """Wait for a port.

        Args:
            port: of the service in its container.
            answers: whether it does, given the port on loopback.
            action: what is waited for, as in "accept connections".
        """
        super().__init__()
        self._port, self._answers, self._action = port, answers, action

    def wait_until_ready(self, container: WaitStrategyTarget) -> None:
        """Wait.

        Raises:
            ContainerError: the service has ended, or does not answer in time.
        """
        found = container.get_wrapped_container()
        until(
            lambda: self._answers(published_port(found, self._port)),
            container=found,
            action=self._action,
            limit=START_LIMIT * MACHINE_SPEED.factor,
        )


def accepting(
    port: int, connect: Callable[[int], DatabaseConnection], refused: type[Exception]
) -> Answering:
    """Waits until a database accepts connections.

    Args:
        port: of the service in its container.
        connect: opens a connection, given the port on loopback.
        refused: what that raises until the database is ready.
    """

    def answers(published: int) -> bool:
        try:
            connect(published).close()
        except refused:
            return False
        return True

    return Answering(port, answers, "accept connections")


def described(
    image: str, port: int, environment: Mapping[str, str], *, variable: str, password: str
) -> DockerContainer:
    """A service whose port is published on loopback, and that finds its password in a file.

    Args:
        image: its reference.
        port: of the service.
        environment: everything but the password.
        variable: whose value would be the password; the one with `_FILE` behind it names the file.
        password: of the service.
    """
    service = DockerContainer(image).with_envs(**environment)
    service.with_env(f"{variable}_FILE", PASSWORD_PATH)
    # Whoever may read it in there is the service.
    service.with_copy_into_container(password.encode(), PASSWORD_PATH, 0o444)
    service.ports = {str(port): (LOOPBACK,)}  # type: ignore[dict-item]
    return service
