"""Models to try servers on: trained in a container, with what they predict there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from seatrial import catalogue
from seatrial.engine.connection import native_platform
from seatrial.errors import UserError
from seatrial.model import image as model_image
from seatrial.project import PACKAGE, command
from seatrial.stack import run_container
from seatrial.stack.image_under_test import ImageUnderTest, configuration_of
from seatrial.stack.model_server import MODEL_PATH
from seatrial.stack.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from seatrial.stack.server import MLflowServer
    from seatrial.trial.session import TrialSession

SERVER = "model-server"
"""The variant that takes any model."""
TRAINER = "custom"
"""The variant in which models are trained that are logged: it holds scikit-learn."""
TRAIN_MODELS = PACKAGE / "trial" / "inside" / "train_models.py"


@dataclass(frozen=True)
class Payload:
    """Input, and what it must be answered with."""

    content_type: str
    body: str
    predictions: object
    """Predictions as JSON has them, from MLflow's `predict` in Python."""
    variations: Mapping[str, Payload] = field(default_factory=dict)
    """Other inputs in this form, by what is special in them."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read a payload that the training script has printed."""
        others = value.get("variations", {})  # a variation has none of its own
        variations = {variation: cls.from_json(other) for variation, other in others.items()}
        return cls(value["content_type"], value["body"], value["predictions"], variations)


@dataclass(frozen=True)
class ModelCase:
    """A model, and its payloads by name of their form."""

    uri: str
    """`models:/...`; a path in the trainer's container where the model is mounted."""
    python: str
    """The version of the interpreter that the model was made with."""
    weights: Mapping[str, Any]
    """Weights by which predictions can be computed elsewhere; empty for a model of others."""
    payloads: Mapping[str, Payload]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read a model that the training script has printed."""
        return cls(
            uri=value["uri"],
            python=value["python"],
            weights=value["weights"],
            payloads={
                name: Payload.from_json(payload) for name, payload in value["payloads"].items()
            },
        )


def log(trial: TrialSession, server: MLflowServer) -> dict[str, ModelCase]:
    """Train beside a tracking server, and log there: `localhost` is a host that it serves.

    Raises:
        UserError: the models can't be made.
    """
    variant = catalogue.load_builtin().variant(TRAINER)
    trainer = _native_image(trial, variant.name, variant.reference, variant.contract)
    argument = {
        "server": f"http://localhost:{server.image.contract.start.port}",
        "prefix": trial.fresh_name("model"),
    }
    command = [trainer.contract.start.interpreter, "-c", _script(), json.dumps(argument)]
    done = run_container.run_in_image(trainer, trial.session, command, {}, beside=server)
    return _read(done.code, done.output, str(done))


def save(
    trial: TrialSession, image: ImageUnderTest
) -> tuple[dict[str, ModelCase], dict[str, dict[str, bytes]]]:
    """Train in an image, natively, and give back the models and the files of each.

    Raises:
        UserError: the models can't be made.
    """
    trainer = (
        image
        if image.native
        else _native_image(trial, image.name, image.reference, image.contract_path)
    )
    place = Workspace(trial.client, trial.session, trainer, trial.fresh_name("models"))
    place.prepare()
    work = place.python(_script(), json.dumps({"folder": "."}))
    cases = _read(work.code, work.printed, str(work))
    return cases, {model: place.files(model) for model in cases}


def describe(trial: TrialSession, uri: str) -> dict[str, ModelCase]:
    """Predict with a model of others, without a server, in an image that `invoke model` makes.

    Raises:
        UserError: the image can't be built, or the model has no input example.
    """
    tag = trial.image_tag("given")
    model_image.run(model_uri=uri, tag=tag, allow_unsigned=True)
    own = _native_image(trial, "given", tag, catalogue.load_builtin().variant(SERVER).contract)
    place = Workspace(trial.client, trial.session, own, trial.fresh_name("given"))
    place.prepare()
    work = place.python(_script(), json.dumps({"given": MODEL_PATH}))
    return _read(work.code, work.printed, str(work))


def _native_image(trial: TrialSession, name: str, reference: str, contract: Path) -> ImageUnderTest:
    """An image on the engine's own platform: training under emulation takes minutes."""
    native = native_platform()
    configuration = configuration_of(trial.client, trial.session, reference, native)
    if configuration is None:
        raise UserError(
            f"{reference} is not there for {native}: run {command('build --platform all')}"
        )
    return ImageUnderTest.of(name, reference, native, contract, configuration)


def _script() -> str:
    return TRAIN_MODELS.read_text(encoding="utf-8")


def _read(code: int, printed: str, whole: str) -> dict[str, ModelCase]:
    if code:
        raise UserError(f"the models of the trial could not be made: {whole}")
    made: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return {model: ModelCase.from_json(value) for model, value in made.items()}
