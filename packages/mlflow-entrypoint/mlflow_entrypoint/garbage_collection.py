"""`mlflow gc` with what a server has in its environment.

MLflow's command takes the database as an option alone, and asks a running server for artifacts that
go through one. A job of this image has the server's variables and no shell to make options of them,
and reaches the store by itself.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlflow_entrypoint import options, server, settings, values

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from mlflow.store.artifact.artifact_repo import ArtifactRepository

COMMAND = "gc"
_DATABASE, _DATABASE_OPTION = "MLFLOW_BACKEND_STORE_URI", "--backend-store-uri"
_DESTINATION, _DESTINATION_OPTION = "MLFLOW_ARTIFACTS_DESTINATION", "--artifacts-destination"
_TRACKING, _TRACKING_OPTION = "MLFLOW_TRACKING_URI", "--tracking-uri"
_PROXIED = "mlflow-artifacts"
"""The scheme of artifacts that go through a server."""


def settle(arguments: list[str], environment: MutableMapping[str, str]) -> list[str]:
    """Settle where `mlflow gc` finds what it deletes.

    Args:
        arguments: what follows `gc`.
        environment: where MLflow's variables are set.

    Returns:
        the arguments, with the database.

    Raises:
        EntrypointError: two variables contradict each other, or a value can't be meant.
    """
    given = options.read(arguments)
    values.check(environment, given.values)
    server.adopt_names(environment, given)
    root = environment.get(server.ARTIFACT_ROOT) or settings.ARTIFACTS
    if not environment.get(_DESTINATION):
        environment[_DESTINATION] = root
    words = given.arguments
    database = given.values.get(_DATABASE_OPTION)
    if not database:
        database = environment.get(_DATABASE) or settings.DATABASE[_DATABASE]
        words = [_DATABASE_OPTION, database, *words]
    asks_a_server = any(word.partition("=")[0] == _TRACKING_OPTION for word in words)
    if not environment.get(_TRACKING) and not asks_a_server:
        environment[_TRACKING] = database
        _reach_artifacts(given.values.get(_DESTINATION_OPTION) or environment[_DESTINATION])
    return words


def _reach_artifacts(destination: str) -> None:
    """Look for artifacts that go through a server where that server keeps them."""
    from mlflow.store.artifact import artifact_repository_registry as registry

    def repository(uri: str, *_: Any, **more: Any) -> ArtifactRepository:  # noqa: ANN401
        base, mark, query = destination.partition("?")
        path = posixpath.normpath(f"/{urlsplit(uri).path}").lstrip("/")
        return registry.get_artifact_repository(f"{base.rstrip('/')}/{path}{mark}{query}", **more)

    known = registry._artifact_repository_registry  # noqa: SLF001
    known.register(_PROXIED, repository)  # type: ignore[no-untyped-call]
