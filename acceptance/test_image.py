"""The configuration of an image, compared with its contract and with its content."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from seatrial.build import store
from seatrial.inspection.content_search import of_other_machines
from seatrial.inspection.layers import read_layers
from seatrial.inspection.secrets import shown
from seatrial.project import command

if TYPE_CHECKING:
    from seatrial.build.store import StoredImage
    from seatrial.contract import Promise
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.trial.fixtures import RunInImage


@pytest.fixture
def stored(image: ImageUnderTest) -> StoredImage:
    """The image in the engine's store, with all its platforms."""
    found = store.read(image.configuration.image_id)
    assert found is not None, f"{image.reference} has gone from the engine's store"
    return found


MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@pytest.mark.promise("image.labels")
def test_label_is_there(image: ImageUnderTest, promised: Promise) -> None:
    assert image.configuration.labels.get(str(promised.value)), (
        f"the label {promised.value} is missing or empty;"
        f" the image has {sorted(image.configuration.labels)}"
    )


@pytest.mark.promise("image.environment")
def test_variable_is_set(image: ImageUnderTest, promised: Promise) -> None:
    environment = image.configuration.environment
    same = environment.get(str(promised.item)) == promised.value
    value = shown(repr(environment.get(str(promised.item))))
    assert same, f"the image's variable {promised.item} is {value}, not {promised.value!r}"


@pytest.mark.promise("image.working_directory")
def test_working_directory(
    image: ImageUnderTest, promised: Promise, run_in_image: RunInImage
) -> None:
    configured = image.configuration.working_directory
    assert configured == promised.value, (
        f"the image names the working directory {configured!r};"
        f" its contract promises {promised.value!r}"
    )
    outcome = run_in_image(image.contract.start.interpreter, "-c", "import os; print(os.getcwd())")
    assert outcome.output.strip() == promised.value, (
        f"a program in a container is to start in {promised.value}; asked where, it ended with"
        f" {outcome}"
    )


@pytest.mark.promise("image.exposed_ports")
def test_port_is_exposed(image: ImageUnderTest, promised: Promise) -> None:
    ports = image.configuration.exposed_ports
    assert promised.value in ports, f"the image exposes {list(ports)}, without {promised.value}"


@pytest.mark.promise("image.entrypoint")
def test_entrypoint(image: ImageUnderTest, promised: Promise) -> None:
    same = list(image.configuration.entrypoint) == promised.value
    assert same, (
        f"the image's entry point is {shown(shlex.join(image.configuration.entrypoint))};"
        f" its contract promises {promised.value}"
    )


@pytest.mark.promise("image.architectures")
def test_architecture(
    image: ImageUnderTest, promised: Promise, stored: StoredImage, run_in_image: RunInImage
) -> None:
    """Every program and library is made for the platform, whether the platform is run or not."""
    platform, machine = f"linux/{promised.item}", MACHINES[str(promised.item)]
    if not stored.platform(platform):
        pytest.skip(
            f"{image.reference} was not built for {platform} here:"
            f" it is after {command('build --platform all')}"
        )
    others = of_other_machines(read_layers(image.configuration.image_id, platform), machine)
    assert not others, f"{len(others)} files of {platform} don't run there, such as {others[0]}"
    if platform == image.platform:
        outcome = run_in_image(
            image.contract.start.interpreter, "-c", "import platform; print(platform.machine())"
        )
        assert outcome.output.strip() == machine, (
            f"the image's Python is to run on {machine}; asked for its machine, it ended with"
            f" {outcome}"
        )


@pytest.mark.promise("image.provenance")
def test_every_platform_has_provenance(stored: StoredImage) -> None:
    assert stored.index, (
        "the image's reference names a single manifest: there is no room for attestations"
    )
    assert stored.platforms, "the image's index names no platform"
    for described in stored.platforms:
        provenance = described.provenance
        assert provenance, f"{described.platform} has no provenance attestation"
        assert provenance.get("buildType") or provenance.get("buildDefinition"), (
            f"the provenance of {described.platform} doesn't say how it was built"
        )


@pytest.mark.promise("image.compressed_megabytes")
def test_compressed_size(image: ImageUnderTest, promised: Promise, stored: StoredImage) -> None:
    described = stored.platform(image.platform)
    assert described is not None, (
        f"{image.reference} is not there for {image.platform} in the engine's store"
    )
    megabytes = described.size / 1_000_000
    assert megabytes <= float(str(promised.value)), (
        f"{image.platform} weighs {megabytes:.0f} MB compressed, {promised.value} MB are promised"
    )
