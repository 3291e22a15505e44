"""A PostgreSQL that belongs to one test."""

from __future__ import annotations

from dataclasses import dataclass, field
from secrets import token_hex
from typing import TYPE_CHECKING

from seatrial.backends.postgresql import PostgreSQL

if TYPE_CHECKING:
    from docker.models.containers import Container

    from seatrial.trial.pool import ServerPool
    from seatrial.trial.session import TrialSession


@dataclass
class PrivatePostgreSQL:
    """A PostgreSQL that its test starts; `name` leads nowhere before that."""

    trial: TrialSession
    servers: ServerPool
    name: str = ""
    """The name of the container, and its host name on the network of the run."""
    password: str = field(default_factory=lambda: token_hex(16), repr=False)
    _containers: list[Container] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = self.trial.fresh_name("private")

    def url(self, *, scheme: str = "postgresql+psycopg2", host: str = "") -> str:
        """The database's URL for SQLAlchemy, whether it runs or not."""
        # The account's own database is there from the start: the server may come up first.
        account = f"{PostgreSQL.USER}:{self.password}"
        return f"{scheme}://{account}@{host or self.name}:{PostgreSQL.PORT}/{PostgreSQL.USER}"

    def start(self) -> Container:
        """Start it, and wait until it accepts connections."""
        container = self.servers.start_alone(PostgreSQL, self.name, self.password)
        self._containers.append(container)
        return container

    def address(self, container: Container) -> str:
        """The IP address of the started container on the network of the run."""
        networks = container.attrs["NetworkSettings"]["Networks"]
        return str(networks[self.trial.session.network]["IPAddress"])

    def remove(self) -> None:
        """Remove what was started."""
        for container in self._containers:
            container.remove(force=True, v=True)
