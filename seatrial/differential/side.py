"""One of the two servers that are compared, and what a sequence of operations makes on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from seatrial.differential.comparison import HTTP, Normaliser, plain, refusal
from seatrial.differential.http_answers import HttpAnswer, noting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow.store.tracking.rest_store import RestStore

    from seatrial.differential.operations import Operation
    from seatrial.differential.steps import Step, World


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


class Execution:
    """A sequence on one server: what it made, and what was answered."""

    def __init__(self, side: Side, world: World) -> None:
        """Nothing is run yet."""
        self.side = side
        self.world = world
        self.noted: list[list[HttpAnswer]] = []
        """What the server has answered in each step."""

    def run(self, steps: Iterable[Step], operations: Mapping[str, Operation]) -> list[Any]:
        """Run the next steps, and give back their answers without what is this server's own."""
        answers = [self._answer(step, operations[step.operation]) for step in steps]
        return list(map(Normaliser(self.world, self.side.address), answers))

    def _answer(self, step: Step, operation: Operation) -> Any:  # noqa: ANN401
        if not self.side.as_sent:
            return self._returned(step, operation)
        with noting() as noted:
            answer = self._returned(step, operation)
        self.noted.append(noted)
        return {**answer, HTTP: [each.as_data() for each in noted]}

    def _returned(self, step: Step, operation: Operation) -> dict[str, Any]:
        try:
            returned = operation(self.side, step.resolved(self.world))
        except MlflowException as error:
            return refusal(error)
        if step.makes:
            self.world.ids[step.makes] = operation.identify(returned)
        answer = plain(returned)
        return answer if isinstance(answer, dict) else {"returned": answer}
