"""One trial: its images, its services, and the servers that tests share.

The process that starts the session begins the trial (`Trial.begin`) and ends it. An xdist worker
joins it (`Trial.join`) and ends only what it started itself.
"""

from __future__ import annotations

import itertools
import os
import re
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import requests
from docker.errors import APIError

from seatrial import catalogue
from seatrial.contract import Promise
from seatrial.engine.connection import connect
from seatrial.errors import UserError
from seatrial.model import stock
from seatrial.stack.ownership import Session, remove_containers, remove_session, sweep
from seatrial.stack.server import (
    Server,
    Stores,
    files_of,
    prepare_files,
    prepare_volume,
    start_server,
)
from seatrial.stack.services import ALWAYS, SecureStore, ServiceAddresses, Services
from seatrial.stack.settings import EMBEDDED, PROXIED
from seatrial.stack.subject import Subject
from seatrial.stack.waiting import ContainerError
from seatrial.stack.workplace import Workplace
from seatrial.trial import ending, ryuk, serving, subjects
from seatrial.trial.once import Once
from seatrial.trial.promising import is_wanted, require_coverage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from docker import DockerClient

    from seatrial.contract.schema import ArtifactStore, Database
    from seatrial.stack.running import RunningServer
    from seatrial.stack.settings import ServerSettings
    from seatrial.trial.options import TrialOptions
    from seatrial.trial.serving import Serving


@dataclass
class Trial:
    """What the fixtures and the reports of one run work with."""

    client: DockerClient
    session: Session
    options: TrialOptions
    subjects: list[Subject]
    services: ServiceAddresses | None = None
    swept: list[str] = field(default_factory=list)
    touched: list[RunningServer] = field(default_factory=list)
    """The servers that the running test has to do with: its report shows their logs."""
    _shared: Once[tuple[str, str], Server, ContainerError] = field(
        default_factory=lambda: Once(ContainerError, ContainerError.in_one_line)
    )
    _main: dict[str, Server] = field(default_factory=dict)
    _serving: Once[str, Serving, UserError] = field(default_factory=lambda: Once(UserError))
    _secure_store: SecureStore | None = None
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def begin(cls, options: TrialOptions, acceptance: Path) -> Self:
        """Sweep what killed runs left, find the images, start the services, try each image once.

        Raises:
            UserError: something is missing, a contract promises what no test in the folder
                `acceptance` tries, or an image is no MLflow server at all.
        """
        client = connect()
        ryuk.configure(client)
        swept = sweep(client)
        session = Session.begin()
        trial = cls(client, session, options, subjects.find(client, session, options), swept=swept)
        try:
            require_coverage(trial.subjects, acceptance)
            trial._start()
        except BaseException:
            trial.end()
            raise
        return trial

    @classmethod
    def join(cls, options: TrialOptions, said: dict[str, Any]) -> Self:
        """Join the trial that another process has begun, from what `invitation` says."""
        client = connect()
        ryuk.configure(client)
        trial = cls(
            client,
            Session(**said["session"]),
            options,
            [Subject.from_json(value) for value in said["subjects"]],
            ServiceAddresses(**said["services"]) if said["services"] else None,
        )
        for subject, (container, stores) in zip(trial.tracking, said["servers"], strict=True):
            trial._shared.made[subject.label, EMBEDDED.name] = Server(
                subject,
                EMBEDDED,
                Stores(**stores),
                client.containers.get(container),
                trial.services,
            )
        return trial

    @property
    def tracking(self) -> list[Subject]:
        """The images that are MLflow's own server, rather than a model's."""
        return [subject for subject in self.subjects if not subject.contract.serves_models]

    def invitation(self) -> dict[str, Any]:
        """What a worker needs in order to join: JSON."""
        embedded = [self.shared(subject, EMBEDDED) for subject in self.tracking]
        return {
            "session": asdict(self.session),
            "subjects": [subject.as_json() for subject in self.subjects],
            "services": self.services.as_json() if self.services else None,
            "servers": [(server.container.id, asdict(server.stores)) for server in embedded],
        }

    def end(self) -> None:
        """Remove everything that the session started.

        Raises:
            UserError: the engine is gone, and with it the means to remove anything.
        """
        with ending.undisturbed(), closing(self.client):
            try:
                remove_session(self.client, self.session)
            except requests.ConnectionError:
                raise UserError(
                    f"the container engine is gone: the next run removes what session"
                    f" {self.session.id} has left there"
                ) from None

    def serving(self, subject: Subject) -> Serving:
        """The servers of models that `subject` stands for, with models to try them on.

        Raises:
            UserError: the models can't be made, now or when they were first asked for.
        """
        return self._serving.get(subject.label, lambda: serving.prepare(self, subject))

    def promised(self, subject: Subject) -> list[ServerSettings]:
        """The configurations that contract and stack allow, from the fullest to the plainest.

        Where the contract promises that a server can be confined, all of them are, at first.
        """
        server = subject.contract.server
        databases, stores = server.databases or [], server.artifact_stores or []
        fitting = [one for one in PROXIED if one.database in databases and one.store in stores]
        free = fitting if fitting and self.options.stack == "full" else [EMBEDDED]
        if subject.contract.process.confined is None:
            return free
        return [one.in_confinement() for one in free] + free

    def main(self, subject: Subject) -> Server:
        """The server that most tests share: the fullest of the promised ones that works at all.

        An image without a driver breaks its promise of that database, and the tests of that promise
        say so; everything else is tried on what does work.
        """
        if subject.label not in self._main:
            tried = (self._working(subject, one) for one in self.promised(subject))
            working = next(filter(None, tried), None)
            self._main[subject.label] = working or self.shared(subject, EMBEDDED)
        found = self._main[subject.label]
        self.touch(found)
        return found

    def on(
        self,
        subject: Subject,
        *,
        database: Database | None = None,
        store: ArtifactStore | None = None,
    ) -> Server:
        """The shared server on this database, or before this store: the fullest that starts.

        Raises:
            ContainerError: none does.
        """
        *fuller, plainest = (
            one
            for one in self.promised(subject)
            if database in (None, one.database) and store in (None, one.store)
        )
        for settings in fuller:
            with suppress(ContainerError):
                return self.shared(subject, settings)
        return self.shared(subject, plainest)

    def direct(self, subject: Subject) -> ServerSettings:
        """The configuration in which clients reach the store by themselves."""
        return replace(self.main(subject).settings, name="direct", store="s3", access="direct")

    def _working(self, subject: Subject, settings: ServerSettings) -> Server | None:
        try:
            server = self.shared(subject, settings)
        except ContainerError:
            return None
        proxied = "proxied" in (subject.contract.server.artifact_access or [])
        return server if server.takes_artifacts() or not proxied else None

    def shared(self, subject: Subject, settings: ServerSettings) -> Server:
        """The server of `subject` with `settings`, started at the first call.

        Raises:
            ContainerError: it did not start, now or when it was first asked for.
        """
        key = (subject.label, settings.name)
        found = self._shared.get(key, lambda: self.launch(subject, settings))
        self.touch(found)
        return found

    def launch(
        self,
        subject: Subject,
        settings: ServerSettings,
        *,
        stores: Stores | None = None,
        wait: bool = True,
    ) -> Server:
        """Start a server of its own, on fresh stores unless some are given.

        Raises:
            ContainerError: it is not healthy in time.
        """
        name = self.fresh_name(f"{subject.name}-{settings.name}")
        if settings.files:
            volume = files_of(name)
            files = {path: text.encode() for path, text in settings.files}
            prepare_files(self.client, self.session, subject, volume, files)
        server = start_server(
            session=self.session,
            subject=subject,
            settings=settings,
            stores=stores or self.fresh_stores(subject, settings),
            services=self.services,
            name=name,
        )
        self.touch(server)
        if wait:
            server.wait_healthy()
        return server

    def fresh_stores(self, subject: Subject, settings: ServerSettings) -> Stores:
        """A new database and bucket, or a new volume, whatever `settings` use."""
        name = self.fresh_name(settings.name)
        if self.services and settings.database == "postgresql":
            self.services.create_database(name)
        if self.services and settings.database == "mysql":
            self.services.create_mysql_database(name)
        if self.services and settings.store == "s3":
            self.services.create_bucket(name)
        if settings.needs_volume:
            prepare_volume(self.client, self.session, subject, name)
        return Stores(database=name, bucket=name, volume=name)

    def workplace(self, subject: Subject) -> Workplace:
        """A new, empty folder for the programs of `subject` to work in."""
        place = Workplace(self.client, self.session, subject, self.fresh_name("workplace"))
        place.prepare()
        return place

    def image_tag(self, purpose: str) -> str:
        """A reference for an image that the trial builds for itself; it ends with the trial."""
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        return self.session.image_name(purpose, f"{worker}-{next(self._numbers)}")

    @property
    def stand_in(self) -> str:
        """The reference of the session's stand-in for Python's official image."""
        return self.session.image_name(stock.TARGET, "stand-in")

    def fresh_name(self, purpose: str) -> str:
        """A name for a container, a database, a bucket or a volume: all of them take it."""
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        plain = re.sub(r"[^a-z0-9]+", "-", purpose.lower()).strip("-")[:24]
        return f"seatrial-{self.session.id}-{plain}-{worker}-{next(self._numbers)}"

    def touch(self, server: RunningServer) -> None:
        """Note that the running test has to do with a server: its report shows the log."""
        if server not in self.touched:
            self.touched.append(server)

    def _start(self) -> None:
        """Services and the first server of each image come up side by side."""
        self.session.create_network(self.client)
        with ThreadPoolExecutor(2) as pool:
            services = pool.submit(self._start_services)
            firsts = [pool.submit(self._first_server, subject) for subject in self.tracking]
            try:
                self.services = services.result()
                for first in firsts:
                    first.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._give_up([services, *firsts])
                raise
        self.touched.clear()

    def _give_up(self, starts: Sequence[Future[Any]]) -> None:
        """End what still starts: waits end with their containers, not only at their time limits."""
        while unfinished := [one for one in starts if not one.done()]:
            remove_containers(self.client, self.session)
            wait(unfinished, timeout=1)
        remove_session(self.client, self.session)

    def _start_services(self) -> ServiceAddresses | None:
        if self.options.stack == "embedded" or not self.tracking:
            return None
        promised = [subject.contract.server.databases or [] for subject in self.subjects]
        mysql = any("mysql" in databases for databases in promised) and is_wanted(
            Promise("server.databases", "mysql"), options=self.options
        )
        try:
            return self._services(*ALWAYS, *(["mysql"] if mysql else [])).start()
        except ContainerError as failure:
            raise UserError(f"a service did not start: {failure}") from None

    def secure_store(self) -> SecureStore:
        """The store that speaks https, started at the first call.

        Raises:
            ContainerError: it did not start.
        """
        assert self.services
        if self._secure_store is None:
            host = self.fresh_name("minio-tls")
            self._secure_store = self._services("minio").start_secure_store(host, self.services)
        return self._secure_store

    def _services(self, *names: str) -> Services:
        known = catalogue.load().services
        images = {name: known[name].reference for name in names}
        for name, reference in images.items():
            if not self.client.images.list(reference):
                raise UserError(f"{reference} is not there: run `invoke build --variant {name}`")
        return Services(self.client, self.session, images)

    def _first_server(self, subject: Subject) -> None:
        """Start the plainest server there is: an image that can't do this is not worth a trial."""
        try:
            self.shared(subject, EMBEDDED)
        except (ContainerError, APIError) as failure:
            reason = failure.explanation if isinstance(failure, APIError) else failure
            raise UserError(
                f"{subject.reference} ({subject.platform}) does not run as an MLflow server with"
                f" `{' '.join(subject.server_command)}`: {reason}"
            ) from None
