"""A folder in which the image's own programs do some work, each command in a container of its own.

Where the contract promises that the image runs confined, they do.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docker.errors import APIError

from seatrial.backends.base import DATA_PATH, VOLUME_PATH
from seatrial.engine import container_files
from seatrial.stack.confinement import confinement
from seatrial.stack.run_container import TIME_LIMIT, CommandOutcome
from seatrial.stack.server import prepare_volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from docker import DockerClient
    from docker.models.containers import Container

    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.labels import Session


@dataclass(frozen=True)
class Work(CommandOutcome):
    """Exit code of a command, and what it printed."""

    printed: str = ""
    """Text on standard output alone."""


@dataclass(frozen=True)
class Workspace:
    """A volume, at `DATA_PATH` in every container: what a command has left, the next one finds."""

    client: DockerClient
    session: Session
    image: ImageUnderTest
    volume: str

    @property
    def tracking_uri(self) -> str:
        """A store in SQLite, as the containers name it."""
        return f"sqlite:///{DATA_PATH}/mlflow.db"

    def prepare(self) -> None:
        """Make the volume."""
        prepare_volume(self.client, self.session, self.image, self.volume)

    def mlflow(self, *arguments: str) -> Work:
        """Run the `mlflow` program as a user of the image does, through its entry point."""
        return self._run([*self.image.mlflow_command, *arguments])

    def python(self, script: str, *arguments: str) -> Work:
        """Run a script with the image's interpreter."""
        return self._run(["-c", script, *arguments], self.image.contract.start.interpreter)

    def put(self, files: Mapping[str, bytes]) -> None:
        """Put files, content by path below `DATA_PATH`, where any user may change them."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path, content in files.items():
                member = tarfile.TarInfo(path)
                member.mode, member.size = 0o666, len(content)
                tar.addfile(member, io.BytesIO(content))
        container = self._container(["true"])
        try:
            container.put_archive(DATA_PATH, archive.getvalue())
        finally:
            container.remove(v=True)

    def files(self, folder: str = ".") -> dict[str, bytes]:
        """Everything in a folder: content by path below it, the folder's below `DATA_PATH`."""
        container = self._container(["true"])
        try:
            return dict(container_files.files(container, f"{DATA_PATH}/{folder}"))
        finally:
            container.remove(v=True)

    def _run(self, command: Sequence[str], entrypoint: str | None = None) -> Work:
        try:
            container = self._container(command, entrypoint)
        except APIError as error:
            return Work(127, str(error.explanation))
        try:
            container.start()
            code = container.wait(timeout=TIME_LIMIT * self.image.scale)["StatusCode"]
            both: bytes = container.logs()
            printed: bytes = container.logs(stderr=False)
        except APIError as error:
            return Work(127, str(error.explanation))
        finally:
            container.remove(force=True, v=True)
        return Work(code, both.decode(errors="replace"), printed.decode(errors="replace"))

    def _container(self, command: Sequence[str], entrypoint: str | None = None) -> Container:
        options: dict[str, Any] = {"entrypoint": [entrypoint]} if entrypoint else {}
        files = {file: {"bind": place, "mode": "ro"} for file, place in self.image.overlaid.items()}
        return self.client.containers.create(
            self.image.configuration.image_id,
            command=list(command),
            environment={
                **self.image.environment,
                "MLFLOW_TRACKING_URI": self.tracking_uri,
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            labels=self.session.labels,
            network_mode="none",
            platform=self.image.platform,
            volumes={self.volume: {"bind": VOLUME_PATH, "mode": "rw"}, **files},
            working_dir=DATA_PATH,
            **options,
            **confinement(self.image),
        )
