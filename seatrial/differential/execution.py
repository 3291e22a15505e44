"""A sequence of operations on one server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException

from seatrial.differential.comparison import HTTP, Normaliser, plain, refusal
from seatrial.differential.http_answers import HttpAnswer, noting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from seatrial.differential.operations import Operation
    from seatrial.differential.side import Side
    from seatrial.differential.steps import Step, World


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
