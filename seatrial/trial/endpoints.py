"""Endpoints of MLflow's server, and which of them a run has used.

The list is MLflow's own, of the version that the trial runs with: the routes of its server, and the
fields of the messages that they take and answer with.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seatrial import errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EXCLUDED = Path(__file__).with_name("excluded_endpoints.toml")
"""Endpoints that no test tries, with the reason."""
DEEPEST = 4
"""Levels of fields that are counted: below, a trace's messages are those of other endpoints."""
_STEM = re.compile(r"/api/[0-9.]+/mlflow/[a-z-]+|/[a-z-]+/?")
"""Pattern of the part by which gaps are grouped."""
_BUILT_IN = {"HEAD", "OPTIONS"}
"""Methods that the web framework answers."""


@dataclass(frozen=True)
class Endpoint:
    """A method and a path, with the fields that MLflow's definition of it has."""

    method: str
    path: str
    """Path with names in angle brackets; the API's where the UI has another one as well."""
    sent: frozenset[str] = frozenset()
    """Dots are between the levels; empty where MLflow defines no message."""
    received: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Coverage:
    """Use that a run has made of the endpoints."""

    version: str
    """MLflow's, whose endpoints they are."""
    used: dict[Endpoint, tuple[set[str], set[str]]] = field(default_factory=dict)
    """Fields that were sent and received."""
    excluded: dict[Endpoint, str] = field(default_factory=dict)
    """Endpoints that were not used, and the reason why none is needed."""
    gaps: list[Endpoint] = field(default_factory=list)
    """Endpoints that were not used."""

    def summary(self) -> list[str]:
        """Lines for people: the numbers, and every gap by name."""
        known = len(self.used) + len(self.excluded) + len(self.gaps)
        fields = [
            (len(all_fields & seen), len(all_fields))
            for endpoint, both in self.used.items()
            for all_fields, seen in zip((endpoint.sent, endpoint.received), both, strict=True)
        ]
        seen, defined = sum(few for few, _ in fields), sum(many for _, many in fields)
        numbers = (
            f"{len(self.used)} of {known}, with {seen} of their {defined} fields;"
            f" {len(self.excluded)} are left out with a reason"
        )
        groups: dict[str, list[str]] = defaultdict(list)
        for endpoint in self.gaps:
            stem = _STEM.match(endpoint.path)
            group = stem[0] if stem else endpoint.path
            groups[group].append(f"{endpoint.method} {endpoint.path.removeprefix(group)}".rstrip())
        return [numbers, *(f"not tried: {name}: {', '.join(groups[name])}" for name in groups)]

    def as_json(self) -> dict[str, Any]:
        """The same for programs, with the fields that were not seen."""
        return {
            "mlflow": self.version,
            "used": {
                str(endpoint): {
                    "fields not sent": sorted(endpoint.sent - sent),
                    "fields not received": sorted(endpoint.received - received),
                }
                for endpoint, (sent, received) in self.used.items()
            },
            "excluded": {str(endpoint): reason for endpoint, reason in self.excluded.items()},
            "gaps": [str(endpoint) for endpoint in self.gaps],
        }


class Router:
    """Finds the endpoint that a request is for."""

    def __init__(self) -> None:
        from werkzeug.routing import Map, Rule

        self.endpoints = {str(endpoint): endpoint for endpoint in endpoints()}
        rules = [
            Rule(endpoint.path, methods=[endpoint.method], endpoint=name, strict_slashes=False)
            for name, endpoint in self.endpoints.items()
        ]
        self._paths = Map(rules, merge_slashes=False).bind("server")

    def find(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]] | None:
        """The endpoint, and what stands in the path by name; None for another server's path.

        Args:
            method: of the request.
            path: without percent-encoding; a prefix before the API's own path is left out.
        """
        from werkzeug.exceptions import HTTPException
        from werkzeug.routing.exceptions import RoutingException

        try:
            name, values = self._paths.match(_api_path(path), method)
        except (HTTPException, RoutingException):
            return None
        return self.endpoints[name], dict(values)


def coverage(uses: Mapping[str, tuple[list[str], list[str]]]) -> Coverage:
    """Compare requests with the endpoints that there are.

    Args:
        uses: fields that were sent and received, by method and path.
    """
    import mlflow

    router, found = Router(), Coverage(mlflow.__version__)
    for use, (sent, received) in uses.items():
        method, _, path = use.partition(" ")
        if match := router.find(method, path):
            endpoint, values = match
            both = found.used.setdefault(endpoint, (set(), set()))
            both[0].update(sent, values)
            both[1].update(received)
    reasons = excluded()
    for name, endpoint in sorted(router.endpoints.items()):
        if endpoint in found.used:
            continue
        reason = next((why for pattern, why in reasons.items() if fnmatchcase(name, pattern)), "")
        if reason:
            found.excluded[endpoint] = reason
        else:
            found.gaps.append(endpoint)
    return found


def excluded() -> dict[str, str]:
    """Read the reasons, by method and path with `*` for any text.

    Raises:
        UserError: an entry has no reason, or no endpoint is like it.
    """
    entries = tomllib.loads(EXCLUDED.read_text(encoding="utf-8"))["excluded"]
    reasons = {pattern: entry["reason"] for entry in entries for pattern in entry["endpoints"]}
    names = [str(endpoint) for endpoint in endpoints()]
    for pattern, reason in reasons.items():
        if not reason or not any(fnmatchcase(name, pattern) for name in names):
            raise errors.UserError(f"{EXCLUDED.name}: {pattern}: no such endpoint, or no reason")
    return reasons


def endpoints() -> list[Endpoint]:
    """List the endpoints of MLflow's server, each once, by method and path."""
    fields = dict(_messages())
    found = {}
    for method, path in _routes():
        path = _api_path(path)
        if method not in _BUILT_IN:
            sent, received = fields.get((method, path), (frozenset(), frozenset()))
            found[method, path] = Endpoint(method, path, sent, received)
    return [found[key] for key in sorted(found)]


def _routes() -> Iterator[tuple[str, str]]:
    """Methods and paths, of both frameworks that MLflow's server is made of."""
    from mlflow.server import app
    from mlflow.server.fastapi_app import create_fastapi_app

    for rule in app.url_map.iter_rules():
        for method in rule.methods or ():
            yield method, rule.rule
    for path, methods in create_fastapi_app().openapi()["paths"].items():
        for method in methods:
            yield method.upper(), re.sub(r"\{(\w*path)\}", r"<path:\1>", path).translate(_BRACKETS)


_BRACKETS = str.maketrans("{}", "<>")


def _api_path(path: str) -> str:
    """The path without a prefix, and the API's where it is the UI's name of the same endpoint."""
    return re.sub(r"^.*?/(?:ajax-)?api/", "/api/", path, count=1)


def _messages() -> Iterator[tuple[tuple[str, str], tuple[frozenset[str], frozenset[str]]]]:
    """Fields of the messages of each endpoint that MLflow defines by some."""
    from mlflow.protos.databricks_pb2 import rpc
    from mlflow.protos.mlflow_artifacts_pb2 import MlflowArtifactsService
    from mlflow.protos.model_registry_pb2 import ModelRegistryService
    from mlflow.protos.service_pb2 import MlflowService
    from mlflow.protos.webhooks_pb2 import WebhookService

    services = (MlflowService, ModelRegistryService, MlflowArtifactsService, WebhookService)
    for service in services:
        for method in service.DESCRIPTOR.methods:
            fields = (
                frozenset(_fields_of(service().GetRequestClass(method).DESCRIPTOR)),
                frozenset(_fields_of(service().GetResponseClass(method).DESCRIPTOR)),
            )
            for endpoint in method.GetOptions().Extensions[rpc].endpoints:
                version = f"{endpoint.since.major}.0"
                path = re.sub(r"\{(?:\w+\.)?(\w+)\}", r"<\1>", endpoint.path)
                yield (endpoint.method, f"/api/{version}{path}"), fields


def _fields_of(message: Any, path: str = "", level: int = 1) -> Iterator[str]:  # noqa: ANN401
    """Names of a message's fields, with dots between the levels."""
    for inner_field in message.fields:
        below = f"{path}.{inner_field.name}" if path else inner_field.name
        yield below
        inner = inner_field.message_type
        if inner and not inner.GetOptions().map_entry and level < DEEPEST:
            yield from _fields_of(inner, below, level + 1)
