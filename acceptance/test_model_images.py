"""Images of models: what `invoke model` makes, and the way from training to an answer."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from docker.errors import ImageNotFound
from mlflow import MlflowClient

from seatrial import catalogue
from seatrial.build import store
from seatrial.engine.connection import PLATFORMS
from seatrial.inspection.image import exported
from seatrial.inspection.layer import decompressed
from seatrial.model import description, fetching, requirements
from seatrial.model import image as model_image
from seatrial.project import command, current
from seatrial.stack.image_under_test import configuration_of
from seatrial.stack.model_server import ServedImage, start_model_server
from seatrial.stack.oneoff import run_in_image

from . import guides, private_index
from .predictions import assert_answered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.server import Server
    from seatrial.stack.services import ServiceAddresses
    from seatrial.trial.model_serving import Serving
    from seatrial.trial.session import TrialSession

GUIDE = "docs/serving.md"
"""In Seatrial's own repository: it uses the images of its catalogue."""
STEP_LIMIT = 600
"""Seconds for one block of the guide: one of them builds an image."""
PIECE = 1 << 20
"""Bytes of an image that are searched at once."""


@pytest.mark.promise("serving.agrees_across_architectures")
def test_one_index_for_both_architectures(trial: TrialSession, serving: Serving) -> None:
    """The same model, confined, gives the same predictions on both."""
    images = [one for one in trial.images if one.name == serving.image.name]
    if len(images) < len(PLATFORMS):
        pytest.skip("builds for both architectures and runs both: with --platform all")
    for kind in ("pipeline", "affine"):
        tag = serving.build(kind, "all")
        stored = store.read(tag)
        assert stored, f"{tag} is not there"
        assert stored.index, f"{tag} is no index"
        assert {one.platform for one in stored.platforms} == set(PLATFORMS)
        assert all(one.provenance for one in stored.platforms), "a platform has no provenance"
        for image in images:
            _assert_predicts(trial, serving, kind, ServedImage(image, tag))


def _assert_predicts(trial: TrialSession, serving: Serving, kind: str, served: ServedImage) -> None:
    name = trial.fresh_name(f"both-{kind}")
    server = start_model_server(served, trial.session, name, workers=1)
    try:
        server.wait_ready()
        for payload in serving.cases[kind].payloads.values():
            assert_answered(
                server.ask(payload.body, payload.content_type), payload.predictions, served.image
            )
    finally:
        server.remove()


@pytest.mark.promise("serving.identifies_model")
def test_labels_say_which_model_it_is(serving: Serving, image: ImageUnderTest) -> None:
    kind = next(iter(serving.cases))
    stored = store.read(serving.served_image(kind).reference)
    assert stored
    described = stored.platform(image.platform)
    assert described
    version = _client(serving).get_model_version_by_alias(
        serving.cases[kind].uri.removeprefix("models:/").partition("@")[0], "trial"
    )
    expected = {
        "org.opencontainers.image.version": version.version,
        "io.seatrial.model.uri": serving.cases[kind].uri,
        "io.seatrial.model.run": version.run_id,
        "io.seatrial.model.name": version.name,
        "io.seatrial.model.version": version.version,
    }
    found = {name: described.labels.get(name) for name in expected}
    assert found == {name: str(value) for name, value in expected.items()}
    identity = described.labels.get("io.seatrial.model.id", "")
    assert version.source == f"models:/{identity}", f"the logged model is {version.source}"
    digest = described.labels.get("io.seatrial.model.signature", "")
    assert digest.startswith("sha256:"), f"the signature's digest is {digest!r}"


@pytest.mark.promise("serving.identifies_model")
@pytest.mark.parametrize("way", ["models", "runs", "s3"])
def test_model_is_had_by_every_address(
    serving: Serving,
    services: ServiceAddresses,
    way: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the registry, from its run, and from the bucket without the server."""
    kind = next(iter(serving.cases))
    server = _tracking(serving)
    name = serving.cases[kind].uri.removeprefix("models:/").partition("@")[0]
    version = _client(serving).get_model_version_by_alias(name, "trial")
    identity = str(version.source).removeprefix("models:/")
    if way == "s3" and server.settings.store != "s3":
        pytest.skip("the server under test keeps its artifacts elsewhere")
    (key, *_) = [*server.object_keys(containing=f"{identity}/artifacts/MLmodel"), ""]
    addresses = {
        "models": f"models:/{name}/{version.version}",
        "runs": f"runs:/{version.run_id}/model",
        "s3": f"s3://{server.stores.bucket}/{key.removesuffix('/MLmodel')}",
    }
    if way == "s3":
        for variable, value in services.client_environment().items():
            monkeypatch.setenv(variable, value)
    folder = fetching.fetch(addresses[way], server.url, tmp_path)
    model = description.read(folder, addresses[way])
    assert (model.identity, model.run) == (identity, version.run_id)
    assert (model.name, model.version) == ((name, version.version) if way == "models" else ("", ""))


@pytest.mark.promise("serving.keeps_indexes_private")
def test_private_index_leaves_its_packages_only(
    trial: TrialSession,
    serving: Serving,
    image: ImageUnderTest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the machine's own settings name it."""
    tag = trial.image_tag("private")
    folder = _model_with(private_index.DISTRIBUTION, serving, tmp_path)
    with private_index.private_index(trial) as index:
        _name_index(index, monkeypatch)
        model_image.run(model_uri=str(folder), tag=tag)
    script = f"import importlib.metadata as m; print(m.version('{private_index.DISTRIBUTION}'))"
    assert _output(script, tag, trial, image).split() == [index.version]
    leaking = set(_found(tag, {"password": index.password, "address": index.host}))
    assert not leaking, f"of the private index, {', '.join(sorted(leaking))}"


@pytest.mark.promise("serving.keeps_indexes_private")
def test_build_of_a_source_sees_no_network_no_secret_and_no_root(
    trial: TrialSession,
    serving: Serving,
    image: ImageUnderTest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A source's setup.py is a stranger's program: this one writes down all that it finds."""
    monkeypatch.setenv("SEATRIAL_SECRET_OF_THIS_MACHINE", "hunter2-of-this-machine")
    client = tmp_path / "client"
    client.mkdir()
    # The client hands these to each step of a build.
    proxies = {"httpProxy": "http://me:hunter2-of-the-proxy@127.0.0.1:9", "noProxy": "*"}
    (client / "config.json").write_text(json.dumps({"proxies": {"default": proxies}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(client))
    tag = trial.image_tag("curious")
    (tmp_path / "model-files").mkdir()
    folder = _model_with(private_index.CURIOUS, serving, tmp_path / "model-files")
    with private_index.private_index(trial) as index:
        _name_index(index, monkeypatch)
        model_image.run(model_uri=str(folder), tag=tag, allow_emulated_build=True)
    script = "import seatrial_curious; print(seatrial_curious.FOUND)"
    written = _output(script, tag, trial, image)
    found = json.loads(written)
    assert found["user"] != 0, "it was built by root"
    assert found["interfaces"] == ["lo"], f"it was built with a network: {found['interfaces']}"
    for secret in (index.password, index.host, "hunter2"):
        assert secret not in written, "its build has seen a secret of this machine"


def _model_with(distribution: str, serving: Serving, target: Path) -> Path:
    """A copy of a model that also requires this distribution."""
    folder = fetching.fetch(serving.cases["affine"].uri, _tracking(serving).url, target)
    with (folder / requirements.FILE).open("a") as listed:
        listed.write(f"\n{distribution}\n")
    return folder


def _name_index(index: private_index.Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine's settings name an index."""
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, f"{os.environ.get(name, '')},{index.host}".lstrip(","))


def _output(script: str, tag: str, trial: TrialSession, image: ImageUnderTest) -> str:
    """What a script prints in an image."""
    found = configuration_of(trial.client, trial.session, tag, image.platform)
    assert found
    command = [image.contract.start.interpreter, "-c", script]
    done = run_in_image(replace(image, configuration=found), trial.session, command, {})
    assert done.code == 0, done
    return done.output


def _found(reference: str, words: Mapping[str, str]) -> Iterator[str]:
    """In which layers and descriptions of an image the words are, by their names."""
    sought = {name: word.encode() for name, word in words.items()}
    overlap = max(map(len, sought.values()))
    for blob in exported(reference):
        content, before = decompressed(blob.content), b""
        while piece := content.read(PIECE):
            both = before + piece
            yield from (
                f"the {name} is in {blob.digest}" for name in sought if sought[name] in both
            )
            before = piece[-overlap:]


def _tracking(serving: Serving) -> Server:
    """The server that the models were logged to."""
    tracking = serving.trial.tracking
    if not tracking:
        pytest.skip("no tracking server is tried beside it, so the model was logged to none")
    return serving.pool.main(tracking[0])


def _client(serving: Serving) -> MlflowClient:
    server = _tracking(serving)
    return MlflowClient(server.url, server.url)


@pytest.mark.promise("serving.follows_guide")
@pytest.mark.usefixtures("serving")
def test_guide_leads_from_training_to_an_answer(trial: TrialSession) -> None:
    """docs/serving.md, as it is printed."""
    project = current()
    if not (path := project.root / GUIDE).is_file():
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
            done = guides.run(step.commands, limit=STEP_LIMIT)
            assert done.returncode == 0, (
                f"{step.commands}{done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
            if step.answer is not None:
                found = json.loads(done.stdout.splitlines()[-1])
                assert _rounded(found) == json.loads(step.answer), f"{step.commands}: {found}"
    finally:
        done = guides.run(guide.clean, limit=STEP_LIMIT)
    assert done.returncode == 0, f"{guide.clean}{done.stderr}"


def _rounded(answer: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [round(value, 9) for value in values] for name, values in answer.items()}
