"""The servers of models: of one image under test, or of the images that one tool builds.

An image that holds no model gets models mounted. Images that hold one are built by the trial from
models that were logged to the server under test, by `invoke model` (`seatrial-model`) and by
`mlflow models build-docker` (`mlflow-model`). For an image that exists already, the model is given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from seatrial.console import make_console
from seatrial.engine.waiting import ContainerError
from seatrial.errors import UserError
from seatrial.model import build_docker
from seatrial.model import image as model_image
from seatrial.stack.model_server import ModelServer, ServedImage, start_model_server
from seatrial.stack.server import prepare_files
from seatrial.trial import model_cases
from seatrial.trial.once import Once
from seatrial.trial.sources import MLFLOW_MODEL, SEATRIAL_MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.trial.model_cases import ModelCase
    from seatrial.trial.pool import ServerPool
    from seatrial.trial.session import TrialSession


@dataclass
class ModelServers:
    """The servers of one image under test, or of the images that one way of building makes."""

    trial: TrialSession
    pool: ServerPool
    image: ImageUnderTest
    cases: Mapping[str, ModelCase]
    """Cases by the name of the model."""
    files: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    """Content of the folders of models that are mounted."""
    served_images: Once[str, ServedImage, UserError] = field(
        default_factory=lambda: Once(UserError)
    )
    _shared: Once[str, ModelServer, ContainerError] = field(
        default_factory=lambda: Once(ContainerError, ContainerError.in_one_line)
    )

    def served_image(self, model: str) -> ServedImage:
        """Give the image that serves a model; built at the first call where it has to be.

        Raises:
            UserError: it can't be built, now or when it was first asked for.
        """

        def make() -> ServedImage:
            return ServedImage(self.image, self.build(model, self.image.platform))

        return self.served_images.get(model, make)

    def mounted(self, name: str, files: Mapping[str, bytes]) -> ServedImage:
        """The image under test, with a folder at the model's place."""
        volume = self.trial.fresh_name(name)
        prepare_files(self.trial.client, self.trial.session, self.image, volume, files)
        return ServedImage(self.image, self.image.configuration.image_id, volume)

    def server(self, model: str) -> ModelServer:
        """The server of that model that tests share, started at the first call.

        Raises:
            ContainerError: it is not ready in time, now or when it was first asked for.
        """
        found = self._shared.get(model, lambda: self._started(model))
        self.pool.touch(found)
        return found

    def launch(
        self,
        model: str,
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        memory: int | None = None,
    ) -> ModelServer:
        """Start a server of its own; it is not waited for."""
        started = start_model_server(
            self.served_image(model),
            self.trial.session,
            self.trial.fresh_name(f"{self.image.name}-{model}"),
            workers=self.image.workers,
            environment=environment,
            user=user,
            memory=memory,
        )
        self.pool.touch(started)
        return started

    def _started(self, model: str) -> ModelServer:
        server = self.launch(model)
        server.wait_ready()
        return server

    def build(self, model: str, platform: str) -> str:
        """Build an image that holds a model.

        Args:
            model: of the model.
            platform: as `invoke model` takes it; MLflow's own way knows none.

        Returns:
            its reference.

        Raises:
            UserError: it can't be built.
        """
        tag = self.trial.image_tag(f"{self.image.name}-{model}")
        case, server = self.cases[model], self.pool.main(self.trial.tracking[0]).url
        if self.image.name == MLFLOW_MODEL:
            base = build_docker.find_base(case.python, self.trial.stand_in, make_console())
            build_docker.build(case.uri, tag, server, base)
        else:
            model_image.run(model_uri=case.uri, tag=tag, platform=platform, tracking_uri=server)
        return tag


class ServingPool:
    """The servers of models, by image under test: made when the first test asks."""

    def __init__(self, trial: TrialSession, pool: ServerPool) -> None:
        """Nothing is made yet."""
        self._trial = trial
        self._pool = pool
        self._made: Once[str, ModelServers, UserError] = Once(UserError)

    def of(self, image: ImageUnderTest) -> ModelServers:
        """The servers of models that `image` stands for, with models to try them on.

        Raises:
            UserError: the models can't be made, now or when they were first asked for.
        """
        return self._made.get(image.label, lambda: _prepare(self._trial, self._pool, image))


def _prepare(trial: TrialSession, pool: ServerPool, image: ImageUnderTest) -> ModelServers:
    """Make the models that `image` is tried with, or take the one that was given."""
    if image.name in (SEATRIAL_MODEL, MLFLOW_MODEL):
        logged = model_cases.log(trial, pool.main(trial.tracking[0]))
        return ModelServers(trial, pool, image, logged)
    if trial.options.model_uri:
        given = model_cases.describe(trial, trial.options.model_uri)
        served = ServedImage(image, image.configuration.image_id)
        everywhere = Once(UserError, made=dict.fromkeys(given, served))
        return ModelServers(trial, pool, image, given, served_images=everywhere)
    saved, files = model_cases.save(trial, image)
    serving = ModelServers(trial, pool, image, saved, files)
    for model, content in files.items():
        serving.served_images.made[model] = serving.mounted(model, content)
    return serving
