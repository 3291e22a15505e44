"""One of the two servers that are compared, and the clients that talk to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from mlflow import MlflowClient

if TYPE_CHECKING:
    from mlflow.store.tracking.rest_store import RestStore


class Side:
    """A server, and the clients that talk to it."""

    def __init__(
        self, address: str, *, database: str, timeout: float = 60, as_sent: bool = False
    ) -> None:
        """Nothing is asked yet.

        Args:
            address: the server's.
            database: the name of the backend that it keeps its data in.
            timeout: of a request, in seconds.
            as_sent: whether answers are compared as the server sends them too.
        """
        self.address = address
        self.database = database
        self.as_sent = as_sent
        self._timeout = timeout
        self._session = requests.Session()
        self.client = MlflowClient(address, address)

    @property
    def store(self) -> RestStore:
        """What the client's own calls go through: it also has those that no client has."""
        store: RestStore = self.client._tracking_client.store  # noqa: SLF001 - no public way
        return store

    def rest(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        """Send what the client has no call for.

        Returns:
            the status, and the body as data.
        """
        answer = self._session.request(
            method, f"{self.address}/{path}", timeout=self._timeout, **arguments
        )
        try:
            return {"status": answer.status_code, "body": answer.json()}
        except requests.JSONDecodeError:
            return {"status": answer.status_code, "body": answer.text}
