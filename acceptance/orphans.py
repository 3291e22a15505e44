"""Processes whose parents have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seatrial.stack.run_container import run_in_container

if TYPE_CHECKING:
    from docker.models.containers import Container

    from seatrial.stack.image_under_test import ImageUnderTest

_LEAVE = """
import os, sys, time
for _ in range(5):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.3)
        os._exit(0)
    os.wait()
time.sleep(float(sys.argv[1]))
for name in os.listdir("/proc"):
    if name.isdigit():
        try:
            fields = open(f"/proc/{name}/stat").read().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        if fields[0] == "Z":
            print(name)
"""


def assert_reaped(container: Container, image: ImageUnderTest) -> None:
    """Make orphans in a container, and require that they leave its process table at their end."""
    wait = str(1 * image.scale)
    outcome = run_in_container(container, image.contract.start.interpreter, "-c", _LEAVE, wait)
    assert outcome.code == 0, f"orphans can't be made: {outcome}"
    number = len(outcome.output.split())
    assert not number, (
        f"of 5 orphans that have ended in the container, {number} are still in its process table:"
        " the container's first process does not reap them"
    )
