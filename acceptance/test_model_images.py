"""Images that `invoke model` makes of models, and the guide from training to an answer."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import pytest
from docker.errors import ImageNotFound
from mlflow import MlflowClient

from seatrial import catalogue
from seatrial.backends.minio import MinIO
from seatrial.build import store
from seatrial.engine import export
from seatrial.engine.connection import PLATFORMS
from seatrial.engine.machine_speed import MACHINE_SPEED
from seatrial.inspection.layer import decompressed
from seatrial.model import description, fetching, requirements
from seatrial.model import image as model_image
from seatrial.project import command, current
from seatrial.stack.image_under_test import configuration_of
from seatrial.stack.model_server import ServedImage, start_model_server
from seatrial.stack.run_container import run_in_image

from . import guides
from .comparisons import assert_equal
from .predictions import assert_predicts
from .private_index import CURIOUS, DISTRIBUTION, start_index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow.entities.model_registry import ModelVersion

    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.server import MLflowServer
    from seatrial.stack.services import Services
    from seatrial.trial.model_serving import ModelServers
    from seatrial.trial.session import TrialSession

    from .private_index import PrivateIndex

GUIDE = "docs/serving.md"
"""Mark of tests for Seatrial's own repository: it uses the images of its catalogue."""
STEP_LIMIT = 600
"""Seconds for one block of the guide: one of them builds an image."""
PIECE = 1 << 20
"""Bytes of an image that are searched at once."""


@pytest.mark.promise("serving.agrees_across_architectures")
def test_one_index_for_both_architectures(trial: TrialSession, serving: ModelServers) -> None:
    """The same model, confined, gives the same predictions on both architectures."""
    images = [image for image in trial.images if image.name == serving.image.name]
    if len(images) < len(PLATFORMS):
        pytest.skip("builds for both architectures and runs both: with --platform all")
    for model in ("pipeline", "affine"):
        tag = serving.build(model, "all")
        stored = store.read(tag)
        assert stored, f"{tag}, which was just built, is not in the engine's store"
        assert stored.index, f"{tag} is a single manifest, no index of two platforms"
        assert_equal(
            f"the set of platforms in the index of {tag}",
            {manifest.platform for manifest in stored.platforms},
            set(PLATFORMS),
        )
        bare = [manifest.platform for manifest in stored.platforms if not manifest.provenance]
        assert not bare, f"in the index of {tag}, {bare} have no provenance"
        for image in images:
            _assert_serves(trial, serving, model, ServedImage(image, tag))


def _assert_serves(
    trial: TrialSession, serving: ModelServers, model: str, served: ServedImage
) -> None:
    name = trial.fresh_name(f"both-{model}")
    server = start_model_server(served, trial.session, name, workers=1)
    try:
        server.wait_ready()
        for payload in serving.cases[model].payloads.values():
            assert_predicts(server, payload)
    finally:
        server.remove()


@dataclass(frozen=True)
class LoggedModel:
    """A model that was logged to the tracking server, and its version in the registry."""

    model: str
    uri: str
    server: MLflowServer
    version: ModelVersion

    @property
    def identity(self) -> str:
        """The id of the logged model."""
        return str(self.version.source).removeprefix("models:/")


@pytest.fixture
def logged_model(serving: ModelServers) -> LoggedModel:
    """The first of the models; skips where none was logged."""
    model, case = next(iter(serving.cases.items()))
    server = _tracking(serving)
    name = case.uri.removeprefix("models:/").partition("@")[0]
    version = MlflowClient(server.url, server.url).get_model_version_by_alias(name, "trial")
    return LoggedModel(model, case.uri, server, version)


@pytest.mark.promise("serving.identifies_model")
def test_labels_say_which_model_it_is(
    serving: ModelServers, logged_model: LoggedModel, image: ImageUnderTest
) -> None:
    stored = store.read(serving.served_image(logged_model.model).reference)
    assert stored, f"the image of the model {logged_model.model} is not in the engine's store"
    described = stored.platform(image.platform)
    assert described, f"the image of the model {logged_model.model} lacks {image.platform}"
    version = logged_model.version
    expected = {
        "org.opencontainers.image.version": version.version,
        "io.seatrial.model.uri": logged_model.uri,
        "io.seatrial.model.run": version.run_id,
        "io.seatrial.model.name": version.name,
        "io.seatrial.model.version": version.version,
    }
    found = {name: described.labels.get(name) for name in expected}
    for name, value in expected.items():
        assert_equal(f"the image's label {name}, against the registry,", found[name], str(value))
    identity = described.labels.get("io.seatrial.model.id", "")
    assert version.source == f"models:/{identity}", (
        f"the image's label io.seatrial.model.id is {identity!r};"
        f" the registry's version is of {version.source}"
    )
    digest = described.labels.get("io.seatrial.model.signature", "")
    assert digest.startswith("sha256:"), (
        f"the image's label io.seatrial.model.signature is {digest!r}, no digest"
    )


@pytest.mark.promise("serving.identifies_model")
@pytest.mark.parametrize("scheme", ["models", "runs", "s3"])
def test_model_is_had_by_every_address(
    logged_model: LoggedModel,
    services: Services,
    scheme: str,
    set_environment: SetEnvironment,
    tmp_path: Path,
) -> None:
    """The registry, the run, and the bucket without the server give the same model."""
    server, version = logged_model.server, logged_model.version
    if scheme == "s3" and server.settings.store != "s3":
        pytest.skip("the server under test keeps its artifacts elsewhere")
    marker = f"{logged_model.identity}/artifacts/MLmodel"
    (key, *_) = [*server.object_keys(containing=marker), ""]
    addresses = {
        "models": f"models:/{version.name}/{version.version}",
        "runs": f"runs:/{version.run_id}/model",
        "s3": f"s3://{server.stores.bucket}/{key.removesuffix('/MLmodel')}",
    }
    if scheme == "s3":
        set_environment(services.of(MinIO).client_environment())

    folder = fetching.fetch(addresses[scheme], server.url, tmp_path)

    model = description.read(folder, addresses[scheme])
    address = addresses[scheme]
    assert_equal(
        f"the pair of model and run that was fetched from {address}",
        (model.identity, model.run),
        (logged_model.identity, version.run_id),
    )
    registered = (version.name, version.version) if scheme == "models" else ("", "")
    assert_equal(
        f"the name and version in the registry, as {address} tells them,",
        (model.name, model.version),
        registered,
    )


SetEnvironment = Callable[[Mapping[str, str]], None]


@pytest.fixture
def set_environment(monkeypatch: pytest.MonkeyPatch) -> SetEnvironment:
    """Set variables of this process, until the test ends."""

    def set_variables(variables: Mapping[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.fixture
def secret_of_this_machine(set_environment: SetEnvironment, tmp_path: Path) -> str:
    """A word of a variable's value, and of a proxy in the docker client's configuration."""
    client = tmp_path / "client"
    client.mkdir()
    # The client hands its proxies to each step of a build.
    proxies = {"httpProxy": "http://me:hunter2-of-the-proxy@127.0.0.1:9", "noProxy": "*"}
    (client / "config.json").write_text(json.dumps({"proxies": {"default": proxies}}))
    set_environment(
        {
            "SEATRIAL_SECRET_OF_THIS_MACHINE": "hunter2-of-this-machine",
            "DOCKER_CONFIG": str(client),
        }
    )
    return "hunter2"


@pytest.fixture
def private_index(trial: TrialSession, set_environment: SetEnvironment) -> Iterator[PrivateIndex]:
    """A package index that asks for a password, and that this machine's settings name."""
    with start_index(trial) as index:
        exempt = {
            name: f"{os.environ.get(name, '')},{index.host}".lstrip(",")
            for name in ("NO_PROXY", "no_proxy")
        }
        set_environment({"PIP_EXTRA_INDEX_URL": index.url, **exempt})
        yield index


class ModelRequiring(Protocol):
    """Fetch the scriptable model, and add a requirement."""

    def __call__(self, distribution: str) -> Path:
        """Return the model's folder."""


@pytest.fixture
def model_requiring(serving: ModelServers, tmp_path: Path) -> ModelRequiring:
    """Make copies of a model that also require another distribution."""

    def fetch(distribution: str) -> Path:
        target = tmp_path / distribution
        target.mkdir()
        folder = fetching.fetch(serving.cases["affine"].uri, _tracking(serving).url, target)
        with (folder / requirements.FILE).open("a") as listed:
            listed.write(f"\n{distribution}\n")
        return folder

    return fetch


class RunScript(Protocol):
    """Run a Python script in an image that a test has made."""

    def __call__(self, tag: str, script: str) -> str:
        """Return what the script prints."""


@pytest.fixture
def run_script(trial: TrialSession, image: ImageUnderTest) -> RunScript:
    """Run Python scripts in images that the test has made."""

    def run(tag: str, script: str) -> str:
        configuration = configuration_of(trial.client, trial.session, tag, image.platform)
        assert configuration, f"{tag} is not in the engine's store"
        command = [image.contract.start.interpreter, "-c", script]
        made = replace(image, configuration=configuration)
        outcome = run_in_image(made, trial.session, command, {})
        assert outcome.code == 0, f"the script fails in {tag}: {outcome}"
        return outcome.output

    return run


@pytest.mark.promise("serving.keeps_indexes_private")
def test_private_index_leaves_its_packages_only(
    trial: TrialSession,
    model_requiring: ModelRequiring,
    private_index: PrivateIndex,
    run_script: RunScript,
) -> None:
    """The packages are in the image, and the index's address and password in none of its layers."""
    tag = trial.image_tag("private")
    folder = model_requiring(DISTRIBUTION)

    model_image.run(model_uri=str(folder), tag=tag)

    script = f"import importlib.metadata as m; print(m.version('{DISTRIBUTION}'))"
    assert_equal(
        f"the version of {DISTRIBUTION} in the image, against the private index,",
        run_script(tag, script).split(),
        [private_index.version],
    )
    words = {"password": private_index.password, "address": private_index.host}
    leaking = set(_blobs_with(tag, words))
    assert not leaking, f"the image gives the private index away: {', '.join(sorted(leaking))}"


@pytest.mark.promise("serving.keeps_indexes_private")
def test_build_of_a_source_sees_no_network_no_secret_and_no_root(
    trial: TrialSession,
    model_requiring: ModelRequiring,
    secret_of_this_machine: str,
    private_index: PrivateIndex,
    run_script: RunScript,
) -> None:
    """A source's setup.py is a stranger's program: this one writes down all that it finds."""
    tag = trial.image_tag("curious")
    folder = model_requiring(CURIOUS)

    model_image.run(model_uri=str(folder), tag=tag, allow_emulated_build=True)

    written = run_script(tag, "import seatrial_curious; print(seatrial_curious.FOUND)")
    found = json.loads(written)
    assert found["user"] != 0, "the source's setup.py ran as root"
    assert found["interfaces"] == ["lo"], (
        f"the source's setup.py ran with a network: {found['interfaces']}"
    )
    for name, secret in {
        "the private index's password": private_index.password,
        "the private index's address": private_index.host,
        "a secret of this machine's environment": secret_of_this_machine,
    }.items():
        hidden = secret not in written
        assert hidden, f"the source's setup.py has seen {name}"


def _blobs_with(reference: str, words: Mapping[str, str]) -> Iterator[str]:
    """Search the layers and descriptions of an image for words, and name those that have one."""
    sought = {name: word.encode() for name, word in words.items()}
    overlap = max(map(len, sought.values()))
    for blob in export.blobs(reference):
        content, before = decompressed(blob.content), b""
        while piece := content.read(PIECE):
            both = before + piece
            yield from (
                f"the {name} is in {blob.digest}" for name in sought if sought[name] in both
            )
            before = piece[-overlap:]


def _tracking(serving: ModelServers) -> MLflowServer:
    """Find the server that the models were logged to; skip where there is none."""
    tracking = serving.trial.tracking
    if not tracking:
        pytest.skip("no tracking server is tried beside it, so the model was logged to none")
    return serving.pool.main(tracking[0])


@pytest.mark.promise("serving.follows_guide")
@pytest.mark.usefixtures("serving")
def test_guide_leads_from_training_to_an_answer(trial: TrialSession) -> None:
    """Every block of docs/serving.md works as it is printed."""
    if not (path := current().root / GUIDE).is_file():
        pytest.skip(f"{GUIDE} is a page of Seatrial's own repository: runs there")
    for name in ("hardened", "hardened-dev"):
        reference = catalogue.load().variant(name).reference
        try:
            trial.client.images.get(reference)
        except ImageNotFound:
            pytest.skip(f"{reference} is not there: run {command(f'build --variant {name}')}")
    guide = guides.read(path)
    try:
        for step in guide.steps:
            done = guides.run(step.commands, limit=STEP_LIMIT * MACHINE_SPEED.factor)
            assert done.returncode == 0, (
                f"of {GUIDE}, these commands ended with exit code {done.returncode}:"
                f"\n{step.commands}{done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
            if step.answer is not None:
                found = json.loads(done.stdout.splitlines()[-1])
                assert _rounded(found) == json.loads(step.answer), (
                    f"of {GUIDE}, these commands printed {found} instead of {step.answer.strip()}:"
                    f"\n{step.commands}"
                )
    finally:
        done = guides.run(guide.clean, limit=STEP_LIMIT * MACHINE_SPEED.factor)
    assert done.returncode == 0, (
        f"of {GUIDE}, the commands that clean up ended with exit code {done.returncode}:"
        f"\n{guide.clean}{done.stderr}"
    )


def _rounded(answer: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [round(value, 9) for value in values] for name, values in answer.items()}
