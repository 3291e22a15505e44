"""The tightest way to run the image: nothing to write to, no rights, nobody's user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
import pytest

from seatrial.stack.confinement import CONFINED_USER
from seatrial.trial.clients import client_of, fresh_name
from seatrial.trial.sharing import uses_server

if TYPE_CHECKING:
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.server import Server
    from seatrial.trial.pool import ServerPool

pytestmark = pytest.mark.promise("process.confined")

COMPLAINTS = ("Read-only file system", "Permission denied", "Operation not permitted")


@pytest.fixture
@uses_server("tracking")
def confined_server(servers: ServerPool, image: ImageUnderTest) -> Server:
    """The fullest of the promised servers, confined: without it nothing else counts."""
    return servers.shared(image, servers.promised(image)[0])


def test_serves_confined(
    confined_server: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    host = confined_server.container.attrs["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"]), "the trial is at fault"
    assert confined_server.container.attrs["Config"]["User"] == CONFINED_USER
    with client_of(confined_server, monkeypatch) as client:
        run_id = client.create_run(client.create_experiment(fresh_name(request))).info.run_id
        client.log_metric(run_id, "loss", 0.25)
        assert client.get_run(run_id).data.metrics == {"loss": 0.25}
        if "artifacts" in (confined_server.image.contract.server.capabilities or []):
            client.log_text(run_id, "written in confinement", "folder/note.txt")
            back = mlflow.artifacts.load_text(f"runs:/{run_id}/folder/note.txt")
            assert back == "written in confinement"


def test_misses_nothing_to_write_to(confined_server: Server) -> None:
    """What could not be written may have been of use: the log complains of nothing."""
    log: str = confined_server.container.logs().decode(errors="replace")
    complaints = [line for line in log.splitlines() if any(each in line for each in COMPLAINTS)]
    assert not complaints, (
        "confined, it writes where the contract's process.confined names no path:\n"
        + "\n".join(complaints[:5])
    )
