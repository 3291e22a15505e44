"""Servers in confinement: a read-only root, no capabilities, an unprivileged user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
import pytest

from seatrial.stack.confinement import CONFINED_USER
from seatrial.trial.sharing import uses_server

from .comparisons import assert_equal

if TYPE_CHECKING:
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.server import MLflowServer
    from seatrial.trial.fixtures import ClientFor, NewRun
    from seatrial.trial.pool import ServerPool

pytestmark = pytest.mark.promise("process.confined")

COMPLAINTS = ("Read-only file system", "Permission denied", "Operation not permitted")


@pytest.fixture
@uses_server("tracking")
def confined_server(servers: ServerPool, image: ImageUnderTest) -> MLflowServer:
    """The fullest of the promised servers, confined; another one must not take its place here."""
    return servers.shared(image, servers.promised(image)[0])


def test_serves_confined(
    confined_server: MLflowServer, client_for: ClientFor, new_run: NewRun
) -> None:
    attributes = confined_server.container.attrs
    host = attributes["HostConfig"]
    assert_equal(
        "the confinement of the trial's own container (read-only root, dropped capabilities, user)",
        (host["ReadonlyRootfs"], host["CapDrop"], attributes["Config"]["User"]),
        (True, ["ALL"], CONFINED_USER),
    )
    client = client_for(confined_server)
    run_id = new_run(client)

    client.log_metric(run_id, "loss", 0.25)

    assert_equal(
        "the set of metrics that the client reads of a run of the confined server",
        client.get_run(run_id).data.metrics,
        {"loss": 0.25},
    )
    if "artifacts" in (confined_server.image.contract.server.capabilities or []):
        client.log_text(run_id, "written in confinement", "folder/note.txt")
        back = mlflow.artifacts.load_text(f"runs:/{run_id}/folder/note.txt")
        assert_equal(
            "the text that the client reads of an artifact of the confined server",
            back,
            "written in confinement",
        )


def test_misses_nothing_to_write_to(confined_server: MLflowServer) -> None:
    """A failed write would be in the log, and may have been of use."""
    log: str = confined_server.container.logs().decode(errors="replace")
    complaints = [line for line in log.splitlines() if any(text in line for text in COMPLAINTS)]
    assert not complaints, (
        "confined, it writes where the contract's process.confined names no path:\n"
        + "\n".join(complaints[:5])
    )
