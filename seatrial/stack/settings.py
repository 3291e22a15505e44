"""Configurations of an MLflow server in a trial: the same few configurations for every image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from seatrial.backends import in_services

if TYPE_CHECKING:
    from seatrial.contract.schema import ArtifactAccess, ArtifactStore, Database

HOST_NAMES = "mlflow,mlflow:*,localhost:*,127.0.0.1:*"
"""Host headers that a server of the trial accepts: its alias on the network, and loopback."""
FILES_PATH = "/seatrial-files"
"""Folder in a server with the files that its settings give it."""


@dataclass(frozen=True)
class ServerSettings:
    """Configuration of the server; equal settings on the same image share a server."""

    name: str
    database: Database
    store: ArtifactStore
    access: ArtifactAccess
    user: str | None = None
    """User as for `docker run --user`; None leaves it to the image."""
    confined: bool = False
    """True if it runs without rights, and writes only where the contract names a place."""
    database_url: str | None = None
    """URL in place of that of the server's own database: to configure it wrongly."""
    options: tuple[str, ...] = ()
    """Options of `mlflow server`, beside those that every server of the trial gets."""
    command: tuple[str, ...] | None = None
    """Command line in place of all that the trial would tell the image's entry point."""
    files: tuple[tuple[str, str], ...] = ()
    """Name and text of files that it finds in `FILES_PATH` and can only read."""
    environment: tuple[tuple[str, str], ...] = field(
        default=(
            # Measured: background jobs triple the time to the first answer and the memory.
            ("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false"),
            ("MLFLOW_SERVER_ALLOWED_HOSTS", HOST_NAMES),
            ("MLFLOW_DISABLE_TELEMETRY", "true"),
            ("DO_NOT_TRACK", "true"),
        )
    )

    @property
    def needs_volume(self) -> bool:
        """Tell whether anything is kept in files."""
        return len(in_services((self.database, self.store))) < 2

    @property
    def needs_services(self) -> bool:
        """Tell whether anything is kept in a service beside the server."""
        return bool(in_services((self.database, self.store)))

    def in_confinement(self) -> ServerSettings:
        """The same settings, confined."""
        return replace(self, name=f"{self.name}-confined", confined=True)

    def with_environment(self, **variables: str) -> ServerSettings:
        """The same settings with these variables set or replaced."""
        merged = {**dict(self.environment), **variables}
        return replace(self, environment=tuple(merged.items()))


EMBEDDED = ServerSettings("embedded", database="sqlite", store="file", access="proxied")
PROXIED = (
    ServerSettings("proxied", database="postgresql", store="s3", access="proxied"),
    ServerSettings("proxied-files", database="postgresql", store="file", access="proxied"),
    ServerSettings("proxied-sqlite", database="sqlite", store="s3", access="proxied"),
    EMBEDDED,
)
"""Settings, the fullest stores first: an image is tried on the first that it promises."""
