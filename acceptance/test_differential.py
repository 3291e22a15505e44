"""Answers of the server under test, compared with those of MLflow itself.

Generated sequences of operations run through the real client on both: docs/differential.md.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlflow
import pytest

from seatrial.differential import areas, reference, search
from seatrial.differential.pair import Pair
from seatrial.differential.side import Side
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow import MlflowClient

    from seatrial.differential.pair import Area, Finding
    from seatrial.stack.server import MLflowServer
    from seatrial.trial.session import TrialSession

    References = Callable[[str], str]


@pytest.fixture(scope="session")
def references() -> Iterator[References]:
    """MLflow's own servers, by version: each is started when it is first asked for."""
    with ExitStack() as running:
        started: dict[str, str] = {}

        def address(version: str) -> str:
            if version not in started:
                started[version] = running.enter_context(reference.running(version))
            return started[version]

        yield address


@dataclass
class Comparison:
    """A server under test, and what it is compared with."""

    server: MLflowServer
    version: str
    reference: str
    trial: TrialSession

    def pair(self, area: Area) -> Pair:
        """The two servers, for operations of one area."""
        timeout = 60 * self.server.image.scale
        return Pair(
            Side(self.reference, database="sqlite", timeout=timeout),
            Side(self.server.url, database=self.server.settings.database, timeout=timeout),
            area,
        )

    def require_no_difference(self, area: Area) -> None:
        """Search for one, in fixed sequences and in generated ones."""
        pair, effort = self.pair(area), search.EFFORTS[self.trial.options.effort]
        self.require_none(search.check(pair, area.fixed, effort))
        self.require_none(search.find(pair, effort, self.trial.seed))

    def require_none(self, finding: Finding | None) -> None:
        """Fail where there is a difference, with the steps that lead to it."""
        if finding:
            options = self.trial.options
            pytest.fail(
                f"the server does not answer as MLflow {self.version} does, after\n{finding}\n"
                f"found with --seed {self.trial.seed} --effort {options.effort}",
                pytrace=False,
            )


@pytest.fixture
def comparison(
    client: MlflowClient,  # noqa: ARG001 - the environment in which clients reach the server
    server: MLflowServer,
    references: References,
    trial: TrialSession,
) -> Comparison:
    """The shared server, and MLflow's own of the same version."""
    version = server.get("/version").text.strip()
    try:
        address = references(version)
    except UserError as error:
        if version == mlflow.__version__:
            raise
        pytest.skip(str(error))
    return Comparison(server, version, address, trial)


@pytest.mark.promise("server.capabilities", "tracking")
def test_tracking_answers_as_mlflow_does(comparison: Comparison) -> None:
    comparison.require_no_difference(areas.TRACKING)


@pytest.mark.promise("server.capabilities", "registry")
@pytest.mark.filterwarnings("ignore:.*model registry stages:FutureWarning")
def test_registry_answers_as_mlflow_does(comparison: Comparison) -> None:
    comparison.require_no_difference(areas.REGISTRY)


@pytest.mark.promise("server.capabilities", "tracing")
def test_tracing_answers_as_mlflow_does(comparison: Comparison) -> None:
    comparison.require_no_difference(areas.TRACING)
