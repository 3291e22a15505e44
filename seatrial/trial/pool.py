"""The servers and services of a run: started when the first test asks, and shared by the tests.

The services, and the first server of each image, are shared by all processes of the run. Any other
shared server belongs to the process whose test has asked for it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from docker.errors import APIError

from seatrial import backends
from seatrial.backends.base import Backend
from seatrial.contract import Promise, promises_of
from seatrial.engine.waiting import ContainerError
from seatrial.errors import UserError
from seatrial.stack import services
from seatrial.stack.labels import remove_containers
from seatrial.stack.server import (
    MLflowServer,
    Stores,
    files_of,
    prepare_files,
    prepare_volume,
    start_server,
)
from seatrial.stack.services import Services, ServiceStarter
from seatrial.stack.settings import EMBEDDED, PROXIED
from seatrial.trial import service_images
from seatrial.trial.once import Once
from seatrial.trial.parametrize import is_wanted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from docker.models.containers import Container

    from seatrial.contract.schema import ArtifactStore, Database
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.running_server import RunningServer
    from seatrial.stack.settings import ServerSettings
    from seatrial.trial.session import TrialSession

_Backend = TypeVar("_Backend", bound=Backend)


class StartError(UserError):
    """Failure to start what every test needs: the run ends with it."""


class ServerPool:
    """The MLflow servers that tests share, and those that a test starts for itself."""

    def __init__(self, trial: TrialSession) -> None:
        """Nothing is started yet."""
        self._trial = trial
        self.touched: list[RunningServer] = []
        """The servers that the running test has to do with: its report shows their logs."""
        self._shared: Once[tuple[str, str], MLflowServer, ContainerError] = Once(
            ContainerError, ContainerError.in_one_line
        )
        self._main: dict[str, MLflowServer] = {}
        self._secured: dict[type[Backend], Backend] = {}
        self._first: set[str] = set()
        """Labels of the images whose first server is known in this process."""

    @cached_property
    def services(self) -> Services | None:
        """PostgreSQL and MinIO, started at the first call of all processes; None without them.

        Raises:
            StartError: one of them does not start.
        """
        try:
            found = self._trial.shared.get("services", self._start_services)
        except UserError as error:
            raise StartError(str(error)) from None
        return Services.from_json(found) if found else None

    def promised(self, image: ImageUnderTest) -> list[ServerSettings]:
        """The configurations that contract and stack allow, from the fullest to the plainest.

        Where the contract promises that a server can be confined, all of them are, at first.
        """
        server = image.contract.server
        databases, stores = server.databases or [], server.artifact_stores or []
        fitting = [
            settings
            for settings in PROXIED
            if settings.database in databases and settings.store in stores
        ]
        free = fitting if fitting and self._trial.options.stack == "full" else [EMBEDDED]
        if image.contract.process.confined is None:
            return free
        return [settings.in_confinement() for settings in free] + free

    def main(self, image: ImageUnderTest) -> MLflowServer:
        """The server that most tests share: the fullest of the promised ones that works at all.

        An image without a driver breaks its promise of that database, and the tests of that promise
        say so; everything else is tried on what does work.
        """
        if image.label not in self._main:
            tried = (self._working(image, settings) for settings in self.promised(image))
            working = next(filter(None, tried), None)
            self._main[image.label] = working or self.shared(image, EMBEDDED)
        found = self._main[image.label]
        self.touch(found)
        return found

    def on(
        self,
        image: ImageUnderTest,
        *,
        database: Database | None = None,
        store: ArtifactStore | None = None,
    ) -> MLflowServer:
        """The shared server on this database, or before this store: the fullest that starts.

        Raises:
            ContainerError: none does.
        """
        *fuller, plainest = (
            settings
            for settings in self.promised(image)
            if database in (None, settings.database) and store in (None, settings.store)
        )
        for settings in fuller:
            with suppress(ContainerError):
                return self.shared(image, settings)
        return self.shared(image, plainest)

    def direct(self, image: ImageUnderTest) -> ServerSettings:
        """The configuration in which clients reach the store by themselves."""
        promised = image.contract.server.artifact_stores or []
        reached = [store for store in promised if store in backends.BUCKETS]
        store = next(iter(reached), backends.BUCKETS[0])
        return replace(self.main(image).settings, name="direct", store=store, access="direct")

    def _working(self, image: ImageUnderTest, settings: ServerSettings) -> MLflowServer | None:
        try:
            server = self.shared(image, settings)
        except ContainerError:
            return None
        proxied = "proxied" in (image.contract.server.artifact_access or [])
        return server if server.takes_artifacts() or not proxied else None

    def shared(self, image: ImageUnderTest, settings: ServerSettings) -> MLflowServer:
        """The server of `image` with `settings`, started at the first call.

        Raises:
            ContainerError: it did not start, now or when it was first asked for.
            StartError: nothing of its kind can be started.
        """
        self._require_first(image, settings)
        key = (image.label, settings.name)
        found = self._shared.get(key, lambda: self.launch(image, settings))
        self.touch(found)
        return found

    def launch(
        self,
        image: ImageUnderTest,
        settings: ServerSettings,
        *,
        stores: Stores | None = None,
        wait: bool = True,
    ) -> MLflowServer:
        """Start a server of its own, on fresh stores unless some are given.

        Raises:
            ContainerError: it is not healthy in time.
            StartError: nothing of its kind can be started.
        """
        self._require_first(image, settings)
        server = self._start(image, settings, stores)
        self.touch(server)
        if wait:
            server.wait_healthy()
        return server

    def fresh_stores(self, image: ImageUnderTest, settings: ServerSettings) -> Stores:
        """A new database and bucket, or a new volume, whatever `settings` use."""
        trial, running = self._trial, self._services_for(settings)
        name = trial.fresh_name(settings.name)
        services.database(settings.database, running).create(name)
        services.store(settings.store, running).create(name)
        if settings.needs_volume:
            prepare_volume(trial.client, trial.session, image, name)
        return Stores(database=name, bucket=name, volume=name)

    def secured(self, backend_class: type[_Backend]) -> _Backend:
        """The backend of that class whose service speaks TLS alone, started at the first call.

        Raises:
            ContainerError: it did not start.
        """
        if backend_class not in self._secured:
            assert self.services
            service = services.service_of(backend_class)
            host = self._trial.fresh_name(f"{service}-tls")
            starter, users = self._services_of(service), self.services.of(backend_class)
            self._secured[backend_class] = starter.start_secured(backend_class, host, users)
        return cast("_Backend", self._secured[backend_class])

    def start_alone(self, backend_class: type[Backend], host: str, password: str) -> Container:
        """Start another service of a backend, for a test that harms it; the test removes it.

        Args:
            backend_class: the class of the backend.
            host: its name on the network.
            password: of its account.

        Raises:
            ContainerError: it is not ready in time.
            UserError: its image is not there.
        """
        starter = self._services_of(services.service_of(backend_class))
        return starter.start_alone(backend_class, host, password)

    def touch(self, server: RunningServer) -> None:
        """Note that the running test has to do with a server: its report shows the log."""
        if server not in self.touched:
            self.touched.append(server)

    def _services_for(self, settings: ServerSettings) -> Services | None:
        """The services, started only for a server that uses them."""
        return self.services if settings.needs_services else None

    def _start(
        self, image: ImageUnderTest, settings: ServerSettings, stores: Stores | None = None
    ) -> MLflowServer:
        trial = self._trial
        name = trial.fresh_name(f"{image.name}-{settings.name}")
        if settings.files:
            files = {path: text.encode() for path, text in settings.files}
            prepare_files(trial.client, trial.session, image, files_of(name), files)
        return start_server(
            session=trial.session,
            image=image,
            settings=settings,
            stores=stores or self.fresh_stores(image, settings),
            running=self._services_for(settings),
            name=name,
        )

    def _require_first(self, image: ImageUnderTest, settings: ServerSettings) -> None:
        """Start the plainest server of an image before any other: the image must at least do that.

        The services that `settings` need come up beside it.
        """
        known = {source.label for source in self._trial.sources}
        if image.label in self._first or image.label not in known:
            return  # an image that a test has built is tried for what it adds
        _ = self._trial.session  # before two threads ask for it
        with ThreadPoolExecutor(2) as pool:
            starts: list[Future[Any]] = [pool.submit(self._first_server, image)]
            if settings.needs_services:
                starts.append(pool.submit(lambda: self.services))
            try:
                for start in starts:
                    start.result()
            except KeyboardInterrupt:
                self._end_waits(starts)
                raise
        self._first.add(image.label)

    def _first_server(self, image: ImageUnderTest) -> None:
        trial = self._trial

        def start() -> dict[str, Any]:
            try:
                server = self._start(image, EMBEDDED)
                server.wait_healthy()
            except (ContainerError, APIError) as failure:
                reason = failure.explanation if isinstance(failure, APIError) else failure
                raise UserError(
                    f"{image.reference} ({image.platform}) does not run as an MLflow server"
                    f" with `{' '.join(image.server_command)}`: {reason}"
                ) from None
            return {"container": server.container.id, "stores": asdict(server.stores)}

        try:
            found = trial.shared.get(f"server-{image.label}", start)
        except UserError as error:
            raise StartError(str(error)) from None
        self._shared.made[image.label, EMBEDDED.name] = MLflowServer(
            image,
            EMBEDDED,
            Stores(**found["stores"]),
            trial.client.containers.get(found["container"]),
            None,
        )

    def _end_waits(self, starts: Sequence[Future[Any]]) -> None:
        """Remove the containers that still start: the waits end with them, not at their limits."""
        while unfinished := [start for start in starts if not start.done()]:
            remove_containers(self._trial.client, self._trial.session)
            wait(unfinished, timeout=1)

    @property
    def needed_services(self) -> tuple[str, ...]:
        """The services that the images under test promise to work with."""
        trial = self._trial
        servers = [source for source in trial.sources if not source.contract.serves_models]
        if trial.options.stack == "embedded" or not servers:
            return ()
        promised = {
            (promise.key, promise.item)
            for source in servers
            for promise in promises_of(source.contract)
        }

        def is_used(entry: backends.BackendEntry) -> bool:
            promise = Promise(entry.promised_by, entry.name)
            is_tried = (promise.key, promise.item) in promised
            return entry.always or (is_tried and is_wanted(promise, options=trial.options))

        return tuple(
            entry.service for entry in backends.ENTRIES if entry.service and is_used(entry)
        )

    def build_services(self) -> None:
        """Build the services that are missing and that nobody builds beforehand.

        Raises:
            UserError: one can't be built.
        """
        trial = self._trial
        service_images.build_missing(
            trial.client, self.needed_services, trial.options.service_images
        )

    def _start_services(self) -> dict[str, Any] | None:
        if not self.needed_services:
            return None
        try:
            return self._services_of(*self.needed_services).start().as_json()
        except (ContainerError, APIError) as failure:
            reason = failure.explanation if isinstance(failure, APIError) else failure
            raise UserError(f"a service did not start: {reason}") from None

    def _services_of(self, *names: str) -> ServiceStarter:
        trial = self._trial
        images = service_images.references(trial.client, names, trial.options.service_images)
        return ServiceStarter(trial.client, trial.session, images)
