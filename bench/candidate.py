"""A server in a container, and its start-up time, memory and CPU time.

Requests go to the container's address on the session's network: the engine's proxy for published
ports would add to the load and to every latency. That, and reading the memory of its processes,
needs an engine on this machine.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from bench.pinging import is_healthy
from seatrial.engine.waiting import ContainerError, until
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from docker import DockerClient
    from docker.models.containers import Container

    from seatrial.stack.labels import Session

PORT = 5000
START_LIMIT = 240.0
"""Seconds."""
_PROCESSES = Path("/proc")

T = TypeVar("T")


@dataclass(frozen=True)
class Candidate:
    """A server to be measured: its image, command and settings."""

    name: str
    """Name in figures."""
    reference: str
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] | None = None
    """Replaces the entry point of the image."""
    path: str = "/health"
    """Path that answers 200 once the server is ready."""
    port: int = PORT
    limits: Mapping[str, Any] = field(default_factory=dict)
    """Limits of the container, as arguments of the docker SDK."""


@dataclass(frozen=True)
class Running:
    """A candidate in its container."""

    candidate: Candidate
    container: Container
    session: Session

    @classmethod
    @contextmanager
    def created(
        cls, client: DockerClient, session: Session, candidate: Candidate
    ) -> Iterator[Self]:
        """Create the container, without starting it, and remove it at the end.

        Raises:
            UserError: the image is not there.
        """
        require_image(client, candidate.reference)
        options = dict(candidate.limits)
        if candidate.entrypoint:
            options["entrypoint"] = list(candidate.entrypoint)
        container = client.containers.create(
            candidate.reference,
            command=list(candidate.command),
            environment=dict(candidate.environment),
            labels=session.labels,
            network=session.network,
            **options,
        )
        try:
            yield cls(candidate, container, session)
        finally:
            container.remove(force=True, v=True)

    @property
    def address(self) -> str:
        """Address of the container on the session's network."""
        self.container.reload()
        networks = self.container.attrs["NetworkSettings"]["Networks"]
        found: str = networks[self.session.network]["IPAddress"]
        return found

    @property
    def base(self) -> str:
        """URL of the server."""
        return f"http://{self.address}:{self.candidate.port}"

    def start(self) -> float:
        """Start the container and wait for the first answer.

        Returns:
            Seconds from the request to the engine until the answer.

        Raises:
            UserError: there was none.
        """
        before = time.monotonic()
        self.container.start()
        try:
            until(
                self._answers,
                container=self.container,
                action=f"answer on {self.candidate.path}",
                limit=START_LIMIT,
                every=0.05,
            )
        except ContainerError as failure:
            raise UserError(f"{self.candidate.name}: {failure}") from None
        return time.monotonic() - before

    def memory(self) -> tuple[float, int]:
        """Read the proportional set size (PSS) in 10^6 bytes, and the number of processes.

        Raises:
            UserError: the processes are not on this machine, or this user may not look at them.
        """
        sizes = self.look(proportional_size)
        return sum(sizes.values()), len(sizes)

    def holders(self, library: str) -> list[int]:
        """Find the processes that have mapped a library and have no child.

        Args:
            library: part of the paths of its files.

        Raises:
            UserError: the processes are not on this machine, or this user may not look at them.
        """
        parents = self.parents()
        maps = self.look(lambda process: (process / "maps").read_text(encoding="utf-8"))
        return [pid for pid in leaves(parents) if library in maps.get(pid, "")]

    def parents(self) -> dict[int, int]:
        """Map each process of the container to its parent, by their ids on this machine."""
        rows = self.container.top(ps_args="-eo pid,ppid")
        return {int(pid): int(parent) for pid, parent in rows["Processes"]}

    def look(self, read: Callable[[Path], T]) -> dict[int, T]:
        """Read something of each process, from its folder in /proc.

        Raises:
            UserError: the processes are not on this machine, or this user may not look at them.
        """
        found = {}
        try:
            for pid in self.parents():
                # A process that has ended since, such as a health check, has no folder.
                with suppress(FileNotFoundError, ProcessLookupError):
                    found[pid] = read(_PROCESSES / str(pid))
        except PermissionError:
            raise UserError(
                "this user may not look at the container's processes in /proc: run the benchmark"
                " as root"
            ) from None
        if not found:
            raise UserError(
                "the container's processes are not on this machine: they can be measured where the"
                " engine runs"
            )
        return found

    def _answers(self) -> bool:
        address = self.address
        return bool(address) and is_healthy(address, self.candidate.port, self.candidate.path)


def require_image(client: DockerClient, reference: str) -> None:
    """Make sure that an image of the catalogue is in the engine's store.

    Raises:
        UserError: it is not there; says how to build it.
    """
    if not client.images.list(reference):
        name = reference.rpartition("/")[2].partition(":")[0]
        raise UserError(f"{reference} is not there: run `invoke build --variant {name}`")


def processor_seconds(container: Container) -> float:
    """Read the CPU time of a container since its start."""
    found = cast("dict[str, Any]", container.stats(stream=False, one_shot=True))
    return float(found["cpu_stats"]["cpu_usage"].get("total_usage", 0)) / 1e9


def leaves(parents: Mapping[int, int]) -> list[int]:
    """Find the processes that have no child, given the parent of each."""
    return sorted(set(parents) - set(parents.values()))


def proportional_size(process: Path) -> float:
    """Read the PSS of one process, in 10^6 bytes: shared pages are divided among their users.

    Args:
        process: its folder in /proc.
    """
    for line in (process / "smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0  # a process that has just ended has no memory any more
