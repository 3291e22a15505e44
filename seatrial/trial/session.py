"""Session of a trial: its options, its images, and the engine that they run on.

Listing the tests takes options and contracts alone. The engine is connected when `begin` is called,
by the process that a person has started and before the first test, or when a test asks for it in a
worker of pytest-xdist.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
from contextlib import closing, suppress
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import requests
from docker.errors import APIError

from seatrial.engine.connection import connect, endpoint, native_platform, require_platform
from seatrial.engine.machine_speed import MACHINE_SPEED
from seatrial.errors import UserError
from seatrial.model import build_docker
from seatrial.stack.image_under_test import NOT_BUILT, ImageConfiguration
from seatrial.stack.labels import Session, remove_abandoned, remove_containers, remove_session
from seatrial.stack.workspace import Workspace
from seatrial.trial import ryuk, sources
from seatrial.trial.signals import install_signal_handlers, signals_ignored
from seatrial.trial.sources import ImageSource

if TYPE_CHECKING:
    from docker import DockerClient

    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.trial.options import TrialOptions
    from seatrial.trial.shared_state import SharedState

_SEEDS = 10**6
"""Seeds that are short enough to be typed."""


class TrialSession:
    """The run, as seen by one of its processes."""

    def __init__(self, options: TrialOptions, shared: SharedState) -> None:
        """Nothing is read and nothing is started yet.

        Args:
            options: what was asked for.
            shared: what the processes of the run know from each other.
        """
        self.options = options
        self.shared = shared
        self.removed: list[str] = []
        self._begun = False
        self._numbers = itertools.count(1)

    @cached_property
    def sources(self) -> list[ImageSource]:
        """Sources of the images under test.

        Raises:
            UserError: an option is wrong, or a contract.
        """

        def plan() -> list[dict[str, Any]]:
            return [source.as_json() for source in sources.plan(self.options)]

        return [ImageSource.from_json(value) for value in self.shared.get("sources", plan)]

    def begin(self) -> None:
        """Connect the engine, remove what killed runs left, and find the images.

        Raises:
            UserError: no engine answers, or an image or a platform is missing.
        """
        self._begun = True
        install_signal_handlers()
        if self.options.overlay and not endpoint().socket:
            raise UserError(f"--overlay: the engine at {endpoint()} can't mount files of this host")
        try:
            self.removed = remove_abandoned(self.client)
            _ = self.session
            self._require_platforms()
            _ = self.images
        except APIError as error:
            raise UserError(f"the container engine refused: {error.explanation}") from None

    def interrupt(self) -> None:
        """Remove the containers, so that no worker waits for one any longer."""
        if self._begun and "session" in vars(self):
            with suppress(requests.ConnectionError):
                remove_containers(self.client, self.session)

    def end(self) -> None:
        """Remove everything that the session started, if this process began it.

        Raises:
            UserError: the engine is gone, and with it the means to remove anything.
        """
        if "client" not in vars(self):
            return
        if not (self._begun and "session" in vars(self)):
            self.client.close()
            return
        with signals_ignored(), closing(self.client):
            try:
                remove_session(self.client, self.session)
            except requests.ConnectionError:
                raise UserError(
                    f"the container engine is gone: the next run removes what session"
                    f" {self.session.id} has left there"
                ) from None

    @cached_property
    def seed(self) -> int:
        """Seed of generated tests, in all processes of the run."""
        asked = self.options.seed
        drawn: int = self.shared.get("seed", lambda: secrets.randbelow(_SEEDS))
        return drawn if asked is None else asked

    @cached_property
    def client(self) -> DockerClient:
        """The engine.

        Raises:
            UserError: none answers.
        """
        MACHINE_SPEED.refresh()
        client = connect()
        ryuk.configure(client)
        return client

    @cached_property
    def session(self) -> Session:
        """The owner of everything that the run starts, with a network of its own.

        Raises:
            UserError: no engine answers.
        """
        # Whoever labels a container is about to start it: testcontainers then needs to know which
        # engine that is, and whether its reaper is there.
        _ = self.client

        def begin() -> dict[str, str]:
            session = Session.begin()
            session.create_network(self.client)
            return asdict(session)

        return Session(**self.shared.get("session", begin))

    @cached_property
    def images(self) -> list[ImageUnderTest]:
        """The images under test, as the engine has them.

        Raises:
            UserError: one of them is not there.
        """

        def find() -> list[dict[str, Any]]:
            found = [source.find(self.client, self.session) for source in self.sources]
            for number, image in enumerate(
                dict.fromkeys(configuration.image_id for configuration in found)
            ):
                if image:
                    self._hold(image, number)
            return [asdict(configuration) for configuration in found]

        found = [ImageConfiguration.from_json(fields) for fields in self.shared.get("images", find)]
        return [
            source.image(
                NOT_BUILT if source.built_by_trial else configuration, self.options.overlay
            )
            for source, configuration in zip(self.sources, found, strict=True)
        ]

    @property
    def tracking(self) -> list[ImageUnderTest]:
        """The images that are MLflow's own server, rather than a model's."""
        return [image for image in self.images if not image.contract.serves_models]

    def image(self, source: ImageSource) -> ImageUnderTest:
        """The image under test that comes from `source`."""
        return next(image for image in self.images if image.label == source.label)

    def image_id(self, source: ImageSource) -> str:
        """The digest of an image, or nothing where this process has not asked for it."""
        return self.image(source).configuration.image_id if self.has_images else ""

    @property
    def has_images(self) -> bool:
        """Whether this process knows the images, as the engine has them."""
        return "images" in vars(self)

    def workspace(self, image: ImageUnderTest) -> Workspace:
        """A new, empty folder for the programs of `image` to work in."""
        place = Workspace(self.client, self.session, image, self.fresh_name("workspace"))
        place.prepare()
        return place

    def image_tag(self, purpose: str) -> str:
        """A reference for an image that the trial builds for itself; it ends with the trial."""
        return self.session.image_name(purpose, f"{_worker()}-{next(self._numbers)}")

    @property
    def stand_in(self) -> str:
        """The reference of the session's stand-in for Python's official image."""
        return self.session.image_name(build_docker.TARGET, "stand-in")

    def fresh_name(self, purpose: str) -> str:
        """A name for a container, a database, a bucket or a volume: all of them take it."""
        plain = re.sub(r"[^a-z0-9]+", "-", purpose.lower()).strip("-")[:24]
        return f"seatrial-{self.session.id}-{plain}-{_worker()}-{next(self._numbers)}"

    def _hold(self, image: str, number: int) -> None:
        """Give an image a name of the session's.

        The engine drops an image with its last name, and a build that runs meanwhile takes the
        catalogue's name away from it.
        """
        repository, _, tag = self.session.image_name("tried", str(number)).rpartition(":")
        self.client.api.tag(image, repository, tag)

    def _require_platforms(self) -> None:
        """Refuse a platform that the engine does not run, or a wrong guess of its own."""
        native = native_platform()
        for platform in {source.platform for source in self.sources}:
            require_platform(platform)
        for source in self.sources:
            if source.native != (source.platform == native):
                raise UserError(
                    f"the tests were listed without the engine, for this machine's architecture,"
                    f" and the engine runs {native}: run again, now that it answers"
                )


def _worker() -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "main")
