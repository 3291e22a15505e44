"""Types of the factories that only the acceptance tests have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from seatrial.stack.server import MLflowServer, Stores
    from seatrial.stack.settings import ServerSettings


class LaunchMain(Protocol):
    """Start a server for one test; it is removed when the test ends."""

    def __call__(
        self,
        *,
        stores: Stores | None = None,
        wait: bool = True,
        **changes: Any,
    ) -> MLflowServer:
        """Start it with the configuration of the server that most tests share.

        Args:
            stores: that exist already; fresh ones without.
            wait: for its health.
            changes: fields of the settings that differ.
        """


class NewStores(Protocol):
    """Make stores for a server."""

    def __call__(self, settings: ServerSettings) -> Stores:
        """Make a fresh database and a fresh bucket, or a volume."""
