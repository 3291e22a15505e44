"""What the harbour's teams count on, tried by their own tests with the fixtures of Seatrial."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from seatrial.trial.fixtures import RunInImage


def test_settings_are_in_the_image(seatrial_run_in_image: RunInImage) -> None:
    outcome = seatrial_run_in_image("printenv", "HARBOUR_REGISTRY")
    assert outcome.output.strip() == "ships"


def test_a_ship_is_found_by_its_tag(
    seatrial_client: MlflowClient, seatrial_experiment: str
) -> None:
    run = seatrial_client.create_run(seatrial_experiment, tags={"ship": "Anna"})
    found = seatrial_client.search_runs([seatrial_experiment], "tags.ship = 'Anna'")
    assert [each.info.run_id for each in found] == [run.info.run_id]


@pytest.mark.promise("server.databases", "postgresql")
def test_runs_only_for_images_that_promise_it(seatrial_client: MlflowClient) -> None:
    assert seatrial_client.search_experiments()
