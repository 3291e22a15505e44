"""Services of the trial, for measurements."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from bench.candidate import require_image
from seatrial import catalogue
from seatrial.backends import ALWAYS
from seatrial.engine import connection
from seatrial.stack.labels import Session, remove_session
from seatrial.stack.services import ServiceStarter
from seatrial.trial import ryuk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient


@contextmanager
def services_session() -> Iterator[tuple[DockerClient, Session, ServiceStarter]]:
    """Begin a session whose services are not started yet; remove all of it at the end.

    Raises:
        UserError: no engine answers, or the image of a service is not there.
    """
    known = catalogue.load().services
    references = {name: known[name].reference for name in ALWAYS}
    with closing(connection.connect()) as client:
        for reference in references.values():
            require_image(client, reference)
        ryuk.configure(client)
        session = Session.begin()
        try:
            session.create_network(client)
            yield client, session, ServiceStarter(client, session, references)
        finally:
            remove_session(client, session)
