"""Marks of fixtures that give a server: its role, and who shares it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

ServerRole = Literal["tracking", "model"]
"""MLflow's own server, or one that serves a model."""
Fixture = TypeVar("Fixture", bound="Callable[..., object]")


@dataclass(frozen=True)
class ServerUse:
    """Use that a fixture makes of servers."""

    role: ServerRole
    shared: str | None
    """The name under which tests share the server; None where each test has its own."""


_USES: dict[str, ServerUse] = {}


def uses_server(role: ServerRole, *, shared: str | None = None) -> Callable[[Fixture], Fixture]:
    """Mark a fixture, below `pytest.fixture`: its tests run on images that have such a server.

    Tests that share a server go to one worker of pytest-xdist, so that it starts once. A test with
    several shared servers goes where the fixture that was defined first sends it.

    Args:
        role: of the server.
        shared: the name of the server that tests share; fixtures may give the same one.
    """

    def register(function: Fixture) -> Fixture:
        _USES[function.__name__] = ServerUse(role, shared)
        return function

    return register


def roles_of(fixtures: Collection[str]) -> set[ServerRole]:
    """The roles of the servers that a test with these fixtures uses."""
    return {use.role for name, use in _USES.items() if name in fixtures}


def shared_server_of(fixtures: Collection[str]) -> str | None:
    """The name of the shared server that decides which worker runs a test with these fixtures."""
    shared = (use.shared for name, use in _USES.items() if name in fixtures)
    return next(filter(None, shared), None)
