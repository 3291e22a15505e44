"""What a site adds to the image: the documentation's example, built as its readers build it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from python_on_whales import docker
from python_on_whales.exceptions import DockerException

from seatrial import catalogue
from seatrial.project import builtin, command
from seatrial.stack.image_under_test import configuration_of
from seatrial.trial.clients import client_of, fresh_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seatrial.contract import Promise
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.settings import ServerSettings
    from seatrial.trial.pool import ServerPool
    from seatrial.trial.session import TrialSession

EXAMPLE = builtin().root / "docs" / "examples" / "site-plugin"


@contextmanager
def extended(trial: TrialSession, image: ImageUnderTest, builder: str) -> Iterator[ImageUnderTest]:
    """Build the example between `builder` and the image; it is gone afterwards."""
    tag = f"seatrial-{trial.session.id}-{image.label}-extended"
    try:
        docker.buildx.build(
            EXAMPLE,
            build_args={"DEV": builder, "RUNTIME": image.reference},
            platforms=[image.platform],
            labels=trial.session.labels,
            tags=tag,
            load=True,
            progress=False,
        )
    except DockerException as failure:
        pytest.fail(f"the example can't be built on {image.reference}: {failure.stderr}")
    try:
        configuration = configuration_of(trial.client, trial.session, tag, image.platform)
        assert configuration, f"{tag} is not in the engine's store"
        yield replace(image, name=f"{image.name}-extended", configuration=configuration)
    finally:
        trial.client.images.remove(tag, force=True)


@pytest.mark.promise("contents.extensible_by")
def test_plugin_is_added_and_runs(
    trial: TrialSession,
    servers: ServerPool,
    image: ImageUnderTest,
    promised: Promise,
    main_settings: ServerSettings,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    variant = str(promised.value)
    builder = catalogue.load().variant(variant).reference
    if not configuration_of(trial.client, trial.session, builder, image.platform):
        architecture = image.platform.removeprefix("linux/")
        build = command(f"build --variant {variant} --platform {architecture}")
        pytest.skip(f"{builder} is not there for {image.platform}: it is after {build}")
    with extended(trial, image, builder) as site:
        settings = replace(main_settings, name="site", options=("--app-name", "site"))
        server = servers.launch(site, settings)
        try:
            assert server.get("/health").headers.get("X-Site") == "harbour", (
                f"the plugin did not run: {server.get('/health').headers}"
            )
            with client_of(server, monkeypatch) as client:
                experiment = client.create_experiment(fresh_name(request))
                run = client.create_run(experiment).info.run_id
                client.log_metric(run, "loss", 0.5)
                assert client.get_run(run).data.metrics == {"loss": 0.5}
        finally:
            server.remove()
