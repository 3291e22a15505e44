"""Backends of an MLflow server: every database and store by its name.

This module is only the list: contracts and options take the names from here, and neither drivers
nor clients are imported before a trial uses one. A backend is one class, in a module of its own.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from seatrial.errors import UserError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seatrial.backends.base import Backend

DATABASES_KEY, STORES_KEY = "server.databases", "server.artifact_stores"


@dataclass(frozen=True)
class BackendEntry:
    """Backend, as the registry lists it."""

    name: str
    """Name in contracts and settings."""
    title: str
    """Name for people."""
    place: str
    """Module below this package, and class."""
    promised_by: str
    """The key of contracts whose item it is."""
    service: str | None = None
    """The service of the catalogue that it runs in; None where files in a volume are all of it."""
    always: bool = False
    """True if every full trial uses it; others where a contract promises them."""
    buckets: bool = False
    """True if it keeps objects in buckets, which clients reach past the server too."""
    tls: bool = False
    """True if its class describes a service that speaks TLS as well."""

    def load(self) -> type[Backend]:
        """Import its class."""
        module, _, name = self.place.partition(":")
        return cast("type[Backend]", getattr(importlib.import_module(module, __name__), name))


ENTRIES = (
    BackendEntry(
        "postgresql",
        "PostgreSQL",
        ".postgresql:PostgreSQL",
        DATABASES_KEY,
        service="postgres",
        always=True,
    ),
    BackendEntry("mysql", "MySQL", ".mysql:MySQL", DATABASES_KEY, service="mysql"),
    BackendEntry("sqlite", "SQLite", ".sqlite:SQLite", DATABASES_KEY),
    BackendEntry(
        "s3",
        "MinIO",
        ".minio:MinIO",
        STORES_KEY,
        service="minio",
        always=True,
        buckets=True,
        tls=True,
    ),
    BackendEntry("file", "files", ".file_store:Files", STORES_KEY),
)
"""The fullest first."""
ALWAYS = tuple(backend.service for backend in ENTRIES if backend.service and backend.always)
"""The services that every full trial starts."""
DATABASES = tuple(backend.name for backend in ENTRIES if backend.promised_by == DATABASES_KEY)
STORES = tuple(backend.name for backend in ENTRIES if backend.promised_by == STORES_KEY)
BUCKETS = tuple(backend.name for backend in ENTRIES if backend.buckets)
TLS = tuple(backend.name for backend in ENTRIES if backend.tls)


def entry(name: str) -> BackendEntry:
    """Find a backend.

    Raises:
        UserError: there is none of that name.
    """
    for backend in ENTRIES:
        if backend.name == name:
            return backend
    known = ", ".join(backend.name for backend in ENTRIES)
    raise UserError(f"unknown database or store '{printable(name)}': known are {known}")


def entry_of(backend_class: type[Backend]) -> BackendEntry:
    """The backend of that class, without importing the others."""
    place = f"{backend_class.__module__}:{backend_class.__name__}"
    return next(backend for backend in ENTRIES if f"{__name__}{backend.place}" == place)


def in_services(names: Iterable[str]) -> tuple[str, ...]:
    """Pick the backends that run in a service."""
    return tuple(name for name in names if entry(name).service)
