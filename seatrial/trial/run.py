"""The parts of one run, as one process holds them: put together when a test needs an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seatrial.trial.endpoint_uses import EndpointUses
from seatrial.trial.model_serving import ServingPool
from seatrial.trial.pool import ServerPool
from seatrial.trial.session import TrialSession

if TYPE_CHECKING:
    from seatrial.trial.options import TrialOptions
    from seatrial.trial.shared_state import SharedState


class Run:
    """The session, and the servers on its images. Nothing is started before a test asks for it."""

    def __init__(self, options: TrialOptions, shared: SharedState) -> None:
        self.trial = TrialSession(options, shared)
        self.servers = ServerPool(self.trial)
        self.serving = ServingPool(self.trial, self.servers)
        self.uses = EndpointUses()
        """Endpoints that the tests of this process have used."""
        self.failed_start = ""
        """Reason why what every test needs did not start: the run is not to go on without it."""
        self.test_began = 0.0
        """Start of the test that runs now, in seconds of the epoch."""
