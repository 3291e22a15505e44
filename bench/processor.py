"""CPU time by its user, on the engine's machine.

BuildKit lives inside dockerd and runs every step of a build as a child of it, so the CPU time of
the children that dockerd has waited for is that of the steps, emulated or not. Containers of
`docker run` (those of a trial, say) are no children of dockerd and don't count. Unpacking,
compressing and exporting is done by dockerd and containerd themselves.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import NamedTuple, Self

import psutil

from seatrial.errors import UserError


class Times(NamedTuple):
    """CPU seconds, user and system together, since some moment in the past."""

    steps: float
    """Steps of builds: every RUN, with the runtime that started it."""
    daemon: float
    """dockerd and containerd themselves."""
    client: float
    """Child processes that have ended: docker, buildx."""
    machine: float
    """Processes of this machine, for comparison: others are at work as well."""

    def since(self, before: Times) -> Times:
        """Subtract an earlier reading."""
        return Times(*(max(0.0, now - then) for now, then in zip(self, before, strict=True)))

    @property
    def total(self) -> float:
        """Cost of a build: steps, daemon and client."""
        return self.steps + self.daemon + self.client


@dataclass(frozen=True)
class Processor:
    """The engine's processes on this machine."""

    dockerd: psutil.Process
    containerd: tuple[psutil.Process, ...]

    @classmethod
    def find(cls) -> Self:
        """Find the engine's processes.

        Raises:
            UserError: they are not here, as with an engine on another machine.
        """
        named: dict[str, list[psutil.Process]] = {"dockerd": [], "containerd": []}
        for process in psutil.process_iter(["name", "status"]):
            # A zombie is listed until its parent waits for it.
            ended = process.info["status"] == psutil.STATUS_ZOMBIE
            if process.info["name"] in named and not ended:
                named[process.info["name"]].append(process)
        if len(named["dockerd"]) != 1:
            raise UserError(
                f"{len(named['dockerd'])} processes named dockerd run on this machine: CPU time "
                "can be measured where exactly one does, beside its builds"
            )
        return cls(named["dockerd"][0], tuple(named["containerd"]))

    def read(self) -> Times:
        """Read the counters.

        Raises:
            UserError: the engine has ended.
        """
        try:
            own = self.dockerd.cpu_times()
            containerd = [process.cpu_times() for process in self.containerd]
        except psutil.NoSuchProcess as error:
            raise UserError("the container engine has ended during a measurement") from error
        # containerd's children are its helpers, such as unpigz; containers belong to their shims,
        # which leave it at once.
        helpers = sum(times.children_user + times.children_system for times in containerd)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        every = psutil.cpu_times()
        return Times(
            steps=own.children_user + own.children_system,
            daemon=sum(times.user + times.system for times in (own, *containerd)) + helpers,
            client=children.ru_utime + children.ru_stime,
            machine=sum(every) - every.idle - getattr(every, "iowait", 0.0) - _guests(every),
        )


def _guests(every: object) -> float:
    """Read the time of virtual machines, which Linux counts in `user` and `nice` as well."""
    return float(getattr(every, "guest", 0.0) + getattr(every, "guest_nice", 0.0))
