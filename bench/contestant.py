"""A container that is measured: when it answers, what memory it takes, what CPU time it used.

It is talked to at its own address on the session's network: the engine's proxy for published ports
would take its share of the machine and of every answer. For that, and to read the memory of its
processes, the engine has to run on this machine.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from seatrial.errors import UserError
from seatrial.stack.waiting import ContainerError, until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from docker import DockerClient
    from docker.models.containers import Container

    from seatrial.stack.ownership import Session

PORT = 5000
START_LIMIT = 240.0
"""Seconds."""
_PROCESSES = Path("/proc")

T = TypeVar("T")


@dataclass(frozen=True)
class Contestant:
    """What is started."""

    name: str
    """As figures call it."""
    reference: str
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] | None = None
    """In place of the image's own."""
    path: str = "/health"
    """What is answered with 200 once it works."""
    port: int = PORT
    limits: Mapping[str, Any] = field(default_factory=dict)
    """What it may use, in the words of the engine's client."""


@dataclass(frozen=True)
class Running:
    """A started contestant."""

    contestant: Contestant
    container: Container
    session: Session

    @classmethod
    def create(cls, client: DockerClient, session: Session, contestant: Contestant) -> Self:
        """Make the container, which is not started yet.

        Raises:
            UserError: the image is not there.
        """
        if not client.images.list(contestant.reference):
            name = contestant.reference.rpartition("/")[2].partition(":")[0]
            raise UserError(
                f"{contestant.reference} is not there: run `invoke build --variant {name}`"
            )
        options = dict(contestant.limits)
        if contestant.entrypoint:
            options["entrypoint"] = list(contestant.entrypoint)
        container = client.containers.create(
            contestant.reference,
            command=list(contestant.command),
            environment=dict(contestant.environment),
            labels=session.labels,
            network=session.network,
            **options,
        )
        return cls(contestant, container, session)

    @property
    def address(self) -> str:
        """Of the container on the session's network."""
        self.container.reload()
        networks = self.container.attrs["NetworkSettings"]["Networks"]
        found: str = networks[self.session.network]["IPAddress"]
        return found

    @property
    def base(self) -> str:
        """Where it answers, as a URL."""
        return f"http://{self.address}:{self.contestant.port}"

    def start(self) -> float:
        """Start it and wait for its first answer.

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
                what=f"answer on {self.contestant.path}",
                limit=START_LIMIT,
                every=0.05,
            )
        except ContainerError as failure:
            raise UserError(f"{self.contestant.name}: {failure}") from None
        return time.monotonic() - before

    def processor_seconds(self) -> float:
        """CPU time of its processes since its start."""
        found = cast("dict[str, Any]", self.container.stats(stream=False, one_shot=True))
        return float(found["cpu_stats"]["cpu_usage"].get("total_usage", 0)) / 1e9

    def memory(self) -> tuple[float, int]:
        """Its proportional set size (PSS) in 10^6 bytes, and how many processes have it.

        Raises:
            UserError: the processes are not on this machine, or this user may not look at them.
        """
        sizes = self.look(proportional_size)
        return sum(sizes.values()), len(sizes)

    def holders(self, library: str) -> list[int]:
        """Its processes that have mapped a library and started no other process.

        Args:
            library: part of the paths of its files.

        Raises:
            UserError: the processes are not on this machine, or this user may not look at them.
        """
        parents = self.parents()
        maps = self.look(lambda process: (process / "maps").read_text(encoding="utf-8"))
        return [pid for pid in leaves(parents) if library in maps.get(pid, "")]

    def parents(self) -> dict[int, int]:
        """Its processes, each with its parent, by their ids on the machine that it runs on."""
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
                # One that has ended since, such as a health check, has nothing any more.
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

    def remove(self) -> None:
        """Remove the container."""
        self.container.remove(force=True, v=True)

    def _answers(self) -> bool:
        if not (address := self.address):
            return False
        with closing(HTTPConnection(address, self.contestant.port, timeout=5)) as connection:
            try:
                connection.request("GET", self.contestant.path, headers={"Host": "localhost"})
                return connection.getresponse().status == 200
            except (OSError, HTTPException):
                return False


def leaves(parents: Mapping[int, int]) -> list[int]:
    """Those of some processes that are nobody's parent, by their parents."""
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
