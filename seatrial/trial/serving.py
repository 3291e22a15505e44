"""Models for the servers under test: trained in a container, with what they predict there.

An image that holds no model gets them mounted. Images that hold one are built by the trial from
models that were logged to the server under test, by `invoke model` (`own`) and by MLflow's own
`mlflow models build-docker` (`stock`). For an image that somebody already has, the model is given.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from seatrial import catalogue
from seatrial.build import table
from seatrial.engine.connection import native_platform
from seatrial.errors import UserError
from seatrial.model import image as model_image
from seatrial.model import stock
from seatrial.stack import oneoff
from seatrial.stack.model_server import MODEL_PATH, ModelServer, ServedImage, start_model_server
from seatrial.stack.server import prepare_files
from seatrial.stack.subject import Subject, configuration_of
from seatrial.stack.waiting import ContainerError
from seatrial.stack.workplace import Workplace
from seatrial.trial.once import Once
from seatrial.trial.sources import OWN, STOCK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seatrial.trial.pool import ServerPool
    from seatrial.trial.session import TrialSession

SERVER = "model-server"
"""The variant that takes any model."""
_EXAMS = Path(__file__).parent / "inside" / "exams.py"
_TRAINER = "custom"
"""The variant in which models are trained that are logged: it holds scikit-learn."""


@dataclass(frozen=True)
class Form:
    """One input, and what it must be answered with."""

    kind: str
    """The content type."""
    body: str
    predictions: object
    """As JSON has them, from MLflow's `predict` in Python."""
    more: Mapping[str, Form] = field(default_factory=dict)
    """Other inputs in this form, by what is special in them."""

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Self:
        """As the script that trains models prints it."""
        more = {what: cls.read(one) for what, one in said.get("more", {}).items()}
        return cls(said["kind"], said["body"], said["predictions"], more)


@dataclass(frozen=True)
class Exam:
    """A model, and its inputs by name of their form."""

    uri: str
    """`models:/...`; a path in the trainer's container where the model is mounted."""
    python: str
    """The version of the interpreter that it was made with."""
    weights: Mapping[str, Any]
    """Of the trial's own models: what their predictions can be reckoned from."""
    forms: Mapping[str, Form]


@dataclass
class Serving:
    """The servers of one image under test, or of the images that one way of building makes."""

    trial: TrialSession
    pool: ServerPool
    subject: Subject
    exams: Mapping[str, Exam]
    """By the kind of model."""
    files: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    """Of models that are mounted: what their folders hold."""
    images: Once[str, ServedImage, UserError] = field(default_factory=lambda: Once(UserError))
    _shared: Once[str, ModelServer, ContainerError] = field(
        default_factory=lambda: Once(ContainerError, ContainerError.in_one_line)
    )

    def image(self, kind: str) -> ServedImage:
        """What serves that kind of model; built at the first call where it has to be.

        Raises:
            UserError: it can't be built, now or when it was first asked for.
        """

        def make() -> ServedImage:
            return ServedImage(self.subject, self.build(kind, self.subject.platform))

        return self.images.get(kind, make)

    def mounted(self, name: str, files: Mapping[str, bytes]) -> ServedImage:
        """The image under test, with a folder at the model's place."""
        volume = self.trial.fresh_name(name)
        prepare_files(self.trial.client, self.trial.session, self.subject, volume, files)
        return ServedImage(self.subject, self.subject.configuration.image_id, volume)

    def server(self, kind: str) -> ModelServer:
        """The server of that kind of model that tests share, started at the first call.

        Raises:
            ContainerError: it is not ready in time, now or when it was first asked for.
        """
        found = self._shared.get(kind, lambda: self._started(kind))
        self.pool.touch(found)
        return found

    def launch(
        self,
        kind: str,
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        memory: int | None = None,
    ) -> ModelServer:
        """Start a server of its own; it is not waited for."""
        started = start_model_server(
            self.image(kind),
            self.trial.session,
            self.trial.fresh_name(f"{self.subject.name}-{kind}"),
            workers=self.subject.workers,
            environment=environment,
            user=user,
            memory=memory,
        )
        self.pool.touch(started)
        return started

    def _started(self, kind: str) -> ModelServer:
        server = self.launch(kind)
        server.wait_ready()
        return server

    def build(self, kind: str, platform: str) -> str:
        """Build an image that holds a model.

        Args:
            kind: of the model.
            platform: as `invoke model` takes it; MLflow's own way knows none.

        Returns:
            its reference.

        Raises:
            UserError: it can't be built.
        """
        tag = self.trial.image_tag(f"{self.subject.name}-{kind}")
        exam, server = self.exams[kind], self.pool.main(self.trial.tracking[0]).url
        if self.subject.name == STOCK:
            base = stock.find_base(exam.python, self.trial.stand_in, table.console())
            stock.build(exam.uri, tag, server, base)
        else:
            model_image.run(model_uri=exam.uri, tag=tag, platform=platform, tracking_uri=server)
        return tag


class ModelServing:
    """The servers of models, by image under test: made when the first test asks."""

    def __init__(self, trial: TrialSession, pool: ServerPool) -> None:
        """Nothing is made yet."""
        self._trial = trial
        self._pool = pool
        self._made: Once[str, Serving, UserError] = Once(UserError)

    def of(self, subject: Subject) -> Serving:
        """The servers of models that `subject` stands for, with models to try them on.

        Raises:
            UserError: the models can't be made, now or when they were first asked for.
        """
        return self._made.get(subject.label, lambda: _prepare(self._trial, self._pool, subject))


def _prepare(trial: TrialSession, pool: ServerPool, subject: Subject) -> Serving:
    """Make the models that `subject` is tried with, or take the one that was given."""
    if subject.name in (OWN, STOCK):
        return Serving(trial, pool, subject, _logged(trial, pool))
    if trial.options.model_uri:
        return _given(trial, pool, subject, trial.options.model_uri)
    return _mounted(trial, pool, subject)


def _given(trial: TrialSession, pool: ServerPool, subject: Subject, uri: str) -> Serving:
    """What the model predicts in an image of our own, without a server."""
    tag = trial.image_tag("given")
    model_image.run(model_uri=uri, tag=tag, allow_unsigned=True)
    own = _native(trial, "given", tag, catalogue.load().variant(SERVER).contract)
    place = Workplace(trial.client, trial.session, own, trial.fresh_name("given"))
    place.prepare()
    work = place.python(_script(), json.dumps({"given": MODEL_PATH}))
    exams = _exams(work.code, work.printed, str(work))
    image = ServedImage(subject, subject.configuration.image_id)
    images = Once(UserError, made=dict.fromkeys(exams, image))
    return Serving(trial, pool, subject, exams, images=images)


def _logged(trial: TrialSession, pool: ServerPool) -> dict[str, Exam]:
    """Train beside the server under test, and log there: `localhost` is a host that it serves."""
    server = pool.main(trial.tracking[0])
    variant = catalogue.load().variant(_TRAINER)
    trainer = _native(trial, variant.name, variant.reference, variant.contract)
    said = {
        "server": f"http://localhost:{server.subject.contract.start.port}",
        "prefix": trial.fresh_name("model"),
    }
    command = [trainer.contract.start.interpreter, "-c", _script(), json.dumps(said)]
    done = oneoff.run_in_image(trainer, trial.session, command, {}, beside=server)
    return _exams(done.code, done.output, str(done))


def _mounted(trial: TrialSession, pool: ServerPool, subject: Subject) -> Serving:
    trainer = (
        subject
        if subject.native
        else _native(trial, subject.name, subject.reference, subject.contract_path)
    )
    place = Workplace(trial.client, trial.session, trainer, trial.fresh_name("models"))
    place.prepare()
    work = place.python(_script(), json.dumps({"folder": "."}))
    exams = _exams(work.code, work.printed, str(work))
    served = Serving(trial, pool, subject, exams, {kind: place.files(kind) for kind in exams})
    for kind, files in served.files.items():
        served.images.made[kind] = served.mounted(kind, files)
    return served


def _native(trial: TrialSession, name: str, reference: str, contract: Path) -> Subject:
    """An image on the engine's own platform: training under emulation takes minutes."""
    native = native_platform()
    configuration = configuration_of(trial.client, trial.session, reference, native)
    if configuration is None:
        raise UserError(f"{reference} is not there for {native}: run `invoke build --platform all`")
    return Subject.of(name, reference, native, contract, configuration)


def _script() -> str:
    return _EXAMS.read_text(encoding="utf-8")


def _exams(code: int, printed: str, whole: str) -> dict[str, Exam]:
    if code:
        raise UserError(f"the models of the trial could not be made: {whole}")
    made: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return {
        kind: Exam(
            uri=each["uri"],
            python=each["python"],
            weights=each["weights"],
            forms={name: Form.read(form) for name, form in each["forms"].items()},
        )
        for kind, each in made.items()
    }
