"""The Python environment inside an image."""

from __future__ import annotations

import json
import re
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from seatrial.trial.reporting import INSTALLED_PROPERTY

if TYPE_CHECKING:
    from collections.abc import Callable

    from seatrial.contract import Promise
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.trial.fixtures import RunInImage

PIN_LABEL = "io.seatrial.pin."
REPORTED = ("mlflow", "boto3", "psycopg2-binary", "psycopg")
LIST_DISTRIBUTIONS = """
import json
import re
from importlib.metadata import distributions
found = distributions()
print(json.dumps([[part.metadata["Name"], part.version, str(part._path)] for part in found]))
"""


@pytest.fixture
def installed(image: ImageUnderTest, run_in_image: RunInImage) -> list[tuple[str, str, str]]:
    """Name, version and place of every distribution on the image's path."""
    outcome = run_in_image(image.contract.start.interpreter, "-c", LIST_DISTRIBUTIONS)
    assert outcome.code == 0, f"the distributions can't be listed: {outcome}"
    return [
        (canonicalize_name(name), version, place)
        for name, version, place in json.loads(outcome.output.splitlines()[-1])
    ]


@pytest.fixture
def version_of(installed: list[tuple[str, str, str]]) -> Callable[[str], str | None]:
    """The installed version of a distribution; None where it is not there."""
    versions = {name: version for name, version, _ in installed}
    return lambda name: versions.get(canonicalize_name(name))


@pytest.mark.promise("python.consistent")
def test_requirements_are_met(image: ImageUnderTest, run_in_image: RunInImage) -> None:
    """`pip check` finds nothing; the image gets this environment's pip, as it may have none."""
    interpreter = image.contract.start.interpreter
    pip = Path(str(distribution("pip").locate_file("pip")))
    outcome = run_in_image(
        interpreter,
        "-c",
        "import sys, runpy; sys.path.append('/opt/seatrial-pip'); sys.argv = ['pip', 'check'];"
        " runpy.run_module('pip', run_name='__main__')",
        copy={pip: "/opt/seatrial-pip"},
    )
    omitted = [canonicalize_name(name) for name in image.contract.python.omits or []]
    if omitted and outcome.code == 1:
        left_out = re.compile(rf" requires ({'|'.join(omitted)}), which is not installed")
        broken = [line for line in outcome.output.splitlines() if not left_out.search(line)]
        assert not broken, (
            f"`pip check` in the image, without what is left out on purpose, finds {broken}"
        )
    else:
        assert outcome.code == 0, f"`pip check` in the image ended with {outcome}"
        assert "No broken requirements found" in outcome.output, (
            f"`pip check` in the image doesn't say that all requirements are met: {outcome}"
        )


@pytest.mark.promise("python.omits")
def test_distribution_is_left_out(
    promised: Promise, version_of: Callable[[str], str | None]
) -> None:
    version = version_of(str(promised.value))
    assert version is None, f"{promised.value} {version} is installed, though left out by contract"


@pytest.mark.promise("python.consistent")
def test_no_distribution_is_there_twice(installed: list[tuple[str, str, str]]) -> None:
    places: dict[str, set[str]] = {}
    for name, _, place in installed:
        places.setdefault(name, set()).add(place)
    twice = {name: sorted(folders) for name, folders in places.items() if len(folders) > 1}
    assert not twice, f"the image has distributions in more than one folder: {twice}"


@pytest.mark.promise("python.imports")
def test_module_imports(image: ImageUnderTest, promised: Promise, run_in_image: RunInImage) -> None:
    outcome = run_in_image(image.contract.start.interpreter, "-c", f"import {promised.value}")
    assert outcome.code == 0, f"`import {promised.value}` fails in the image: {outcome}"


@pytest.mark.promise("python.distributions")
def test_distribution_has_version(
    promised: Promise, version_of: Callable[[str], str | None]
) -> None:
    version = version_of(str(promised.item))
    assert version, f"{promised.item} is not installed in the image"
    assert SpecifierSet(str(promised.value)).contains(version, prereleases=True), (
        f"{promised.item} is {version}, the contract wants {promised.value}"
    )


@pytest.mark.promise("python.pins")
def test_pins_reach_the_installation(
    image: ImageUnderTest,
    version_of: Callable[[str], str | None],
    record_property: Callable[[str, object], None],
) -> None:
    """Versions that the build was asked for are the installed ones, MLflow's own included."""
    labels = image.configuration.labels
    wanted = {
        name.removeprefix(PIN_LABEL): version
        for name, version in labels.items()
        if name.startswith(PIN_LABEL) and version
    }
    wanted["mlflow"] = labels.get("org.opencontainers.image.version", "")
    reported = {name: version_of(name) for name in REPORTED}
    text = ", ".join(f"{name} {version}" for name, version in reported.items() if version)
    pins = ", ".join(f"{name}=={version}" for name, version in sorted(wanted.items()))
    record_property(INSTALLED_PROPERTY, f"{image.label}: {text} (asked for: {pins})")
    wrong = [
        f"{name} is {version_of(name)}, asked for was {version}"
        for name, version in sorted(wanted.items())
        if version_of(name) != version
    ]
    assert not wrong, f"in the image, {'; '.join(wrong)}"
