"""Container image registries: whether they answer, and their digests of references."""

from __future__ import annotations

import functools
from contextlib import closing
from http import HTTPStatus

import requests
from docker.auth import resolve_repository_name
from docker.errors import APIError, InvalidRepository

from seatrial.engine import connection
from seatrial.errors import UserError

KNOWN = ("docker.io", "ghcr.io", "quay.io", "gcr.io", "dhi.io")
"""The registries that the catalogue's base images and the foreign images under trial come from."""

_DOCKER_HUB_API = "registry-1.docker.io"


@functools.cache
def answers(host: str, timeout: float = 5) -> bool:
    """Ask whether an image registry answers this machine; asked once per process.

    Args:
        host: as in a reference, such as `docker.io` or `localhost:5000`.
        timeout: seconds for the connection, and again for the answer.

    Source:
        The base endpoint of the OCI distribution specification, "end-1": 200, or 401 with a
        challenge. Anything else is a proxy or a web server that stands in the way.
    """
    name = _DOCKER_HUB_API if host == "docker.io" else host
    scheme = "http" if name.partition(":")[0] in {"localhost", "127.0.0.1"} else "https"
    try:
        answer = requests.get(f"{scheme}://{name}/v2/", timeout=timeout, allow_redirects=False)
    except requests.RequestException:
        return False
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        return "WWW-Authenticate" in answer.headers
    return answer.status_code == HTTPStatus.OK


def resolve(reference: str) -> str | None:
    """Pin an image reference to the digest that its registry gives for it now.

    The engine asks the registry, with the credentials of the docker configuration: what it can
    resolve it can also pull.

    Args:
        reference: such as `debian:trixie-slim` or `ghcr.io/mlflow/mlflow:v3.1.1`.

    Returns:
        The reference with `@sha256:...` (as it was, where it had one), or None where the
        registry does not answer.

    Raises:
        UserError: the reference is malformed, the registry knows no such image, or no engine
            answers.
    """
    try:
        host, _ = resolve_repository_name(reference)
    except InvalidRepository as error:
        raise UserError(f"{reference!r} is no image reference: {error}") from error
    # A remote engine may reach what this machine does not; a local one shares its network, and
    # would try for much longer before it gave up.
    local = connection.endpoint().socket is not None
    if local and not answers(host):
        return None
    with closing(connection.connect()) as client:
        try:
            digest = client.images.get_registry_data(reference).id
        except APIError as error:
            if error.is_client_error():
                raise UserError(
                    f"{host} has no image {reference} that may be pulled: {error.explanation}"
                ) from error
            return None
    return reference if "@" in reference else f"{reference}@{digest}"
