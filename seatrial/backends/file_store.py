"""Artifacts as files, in the server's volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seatrial.backends.base import DATA_PATH, ArtifactStore
from seatrial.engine import container_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker.models.containers import Container

_FOLDER = "artifacts"


class Files(ArtifactStore):
    """A folder of the volume; each volume has one, so that its name is always the same."""

    def create(self, name: str) -> None:
        """Do nothing: MLflow makes the folder."""

    def root(self, name: str) -> str:  # noqa: ARG002
        """The folder."""
        return f"{DATA_PATH}/{_FOLDER}"

    def server_environment(self) -> Mapping[str, str]:
        """Nothing."""
        return {}

    def client_environment(self) -> Mapping[str, str]:
        """Nothing."""
        return {}

    def keys(self, name: str, server: Container) -> list[str]:
        """Paths below the folder."""
        return list(self.objects(name, server, containing=""))

    def objects(
        self,
        name: str,  # noqa: ARG002
        server: Container,
        *,
        containing: str,
    ) -> dict[str, bytes]:
        """Content by path below the folder, for paths with `containing` in them."""
        prefix = f"{_FOLDER}/"
        return {
            path.removeprefix(prefix): content
            for path, content in container_files.files(server, DATA_PATH)
            if path.startswith(prefix) and containing in path
        }
