"""Labels that say which session a container, network or volume belongs to, and removal by them.

Everything that a session starts carries two labels: the session's id, and its owner
(`seatrial.stack.owner`). A killed session can't clean up, but the next one can see that the owner
is gone. What a live session owns, and what an owner that can't be seen from here made, is left
alone.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from docker.errors import APIError, NotFound

from seatrial.stack.owner import Owner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from docker import DockerClient

SESSION_LABEL = "seatrial.session"
OWNER_LABEL = "seatrial.owner"
_IMAGES = "seatrial-trial"


@dataclass(frozen=True)
class Session:
    """Run of the trial, and the process that answers for what it starts."""

    id: str
    owner: str

    @classmethod
    def begin(cls) -> Session:
        """A new session that belongs to this process."""
        return cls(id=secrets.token_hex(4), owner=str(Owner.this_process()))

    @property
    def network(self) -> str:
        """The name of the network that all containers of the session share."""
        return f"seatrial-{self.id}"

    def image_name(self, purpose: str, suffix: str) -> str:
        """A reference for an image that the session builds."""
        return f"{_IMAGES}/{purpose}:{self.id}-{suffix}"

    def create_network(self, client: DockerClient) -> None:
        """Make the session's network: apart from the engine's default one, and from others."""
        client.networks.create(self.network, labels=self.labels)

    @property
    def labels(self) -> dict[str, str]:
        """Labels of everything that the session starts."""
        return {SESSION_LABEL: self.id, OWNER_LABEL: self.owner}


def remove_abandoned(client: DockerClient) -> list[str]:
    """Remove what sessions whose owner has ended left behind; give back what was removed."""
    removed = _remove(client, is_abandoned)
    # A session has its network for as long as it lives, and before it builds anything.
    networks = client.networks.list(filters=_labelled())
    alive = {str(network.attrs["Labels"][SESSION_LABEL]) for network in networks}
    return removed + _remove_images(client, lambda session: session not in alive)


def remove_session(client: DockerClient, session: Session) -> list[str]:
    """Remove everything that `session` started or built; give back what was removed."""
    removed = _remove(client, lambda labels: labels.get(SESSION_LABEL) == session.id)
    return removed + _remove_images(client, lambda built_by: built_by == session.id)


def remove_containers(client: DockerClient, session: Session) -> list[str]:
    """Remove the containers that `session` started; give back what was removed."""
    return _remove_containers(client, lambda labels: labels.get(SESSION_LABEL) == session.id)


def remove_all(client: DockerClient) -> list[str]:
    """Remove everything that any session started or built; give back what was removed."""
    return _remove(client, lambda _: True) + _remove_images(client, lambda _: True)


def is_abandoned(labels: Mapping[str, str]) -> bool:
    """Tell whether the session that has these labels is known to have ended."""
    if not (label := labels.get(OWNER_LABEL)):
        return True
    owner = Owner.read(label)
    # What another version has labelled is that version's, or goes with `invoke clean`.
    return owner is not None and owner.is_gone()


def _remove(client: DockerClient, wanted: Callable[[Mapping[str, str]], bool]) -> list[str]:
    """Containers go first: a network or a volume in use can't be removed."""
    removed = _remove_containers(client, wanted)
    labelled = _labelled()
    for network in client.networks.list(filters=labelled):
        if wanted(network.attrs["Labels"] or {}):
            try:
                network.remove()
            except NotFound:
                continue
            removed.append(f"network {network.name}")
    for volume in client.volumes.list(filters=labelled):
        if wanted(volume.attrs["Labels"] or {}):
            try:
                volume.remove(force=True)
            except NotFound:
                continue
            removed.append(f"volume {volume.name}")
    return removed


def _remove_containers(
    client: DockerClient, wanted: Callable[[Mapping[str, str]], bool]
) -> list[str]:
    removed = []
    for container in client.containers.list(all=True, filters=_labelled(), ignore_removed=True):
        if wanted(container.labels):
            try:
                container.remove(force=True, v=True)
            except APIError as error:
                # Two may meet at the same container: the other one's removal is as good.
                if error.status_code not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                    raise
                continue
            removed.append(f"container {container.name}")
    return removed


def session_of(image: str) -> str | None:
    """Read from the name of an image which session built it (`Session.image_name`)."""
    if not image.startswith(f"{_IMAGES}/"):
        return None
    return image.rpartition(":")[2].split("-")[0]


def _remove_images(client: DockerClient, wanted: Callable[[str], bool]) -> list[str]:
    """Whoever builds them, their names say the session."""
    removed = []
    for image in client.images.list(filters={"reference": f"{_IMAGES}/*"}):
        for name in image.tags:
            if (session := session_of(name)) and wanted(session):
                try:
                    client.images.remove(name, force=True)
                except NotFound:
                    continue
                removed.append(f"image {name}")
    return removed


def _labelled() -> dict[str, str | list[str] | bool]:
    return {"label": SESSION_LABEL}
