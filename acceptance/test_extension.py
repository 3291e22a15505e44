"""The documentation's example of an image that a site extends, built as its readers build it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from python_on_whales import docker
from python_on_whales.exceptions import DockerException

from seatrial import catalogue
from seatrial.project import builtin, command
from seatrial.stack.image_under_test import configuration_of

from .comparisons import assert_equal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seatrial.contract import Promise
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.server import MLflowServer
    from seatrial.stack.settings import ServerSettings
    from seatrial.trial.fixtures import ClientFor, NewRun
    from seatrial.trial.pool import ServerPool
    from seatrial.trial.session import TrialSession

EXAMPLE = builtin().root / "docs" / "examples" / "site-plugin"


@pytest.fixture
def site_image(
    trial: TrialSession, image: ImageUnderTest, promised: Promise
) -> Iterator[ImageUnderTest]:
    """The example, built with the variant that the contract names on the image under test."""
    variant = str(promised.value)
    builder = catalogue.load().variant(variant).reference
    if not configuration_of(trial.client, trial.session, builder, image.platform):
        architecture = image.platform.removeprefix("linux/")
        build = command(f"build --variant {variant} --platform {architecture}")
        pytest.skip(f"{builder} is not there for {image.platform}: it is after {build}")
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


@pytest.fixture
def site_server(
    site_image: ImageUnderTest, servers: ServerPool, main_settings: ServerSettings
) -> Iterator[MLflowServer]:
    """A server of the example, with its plugin."""
    settings = replace(main_settings, name="site", options=("--app-name", "site"))
    server = servers.launch(site_image, settings)
    yield server
    server.remove()


@pytest.mark.promise("contents.extensible_by")
def test_plugin_is_added_and_runs(
    site_server: MLflowServer, client_for: ClientFor, new_run: NewRun
) -> None:
    headers = site_server.get("/health").headers
    assert headers.get("X-Site") == "harbour", (
        "the plugin that the example adds did not run: it would add `X-Site: harbour` to the"
        f" server's answers, which have {dict(headers)}"
    )

    client = client_for(site_server)
    run = new_run(client)
    client.log_metric(run, "loss", 0.5)
    assert_equal(
        "the set of metrics that the client reads of a run of the extended image's server",
        client.get_run(run).data.metrics,
        {"loss": 0.5},
    )
