"""The areas of MLflow that are tried, each with the operations that belong to it."""

from __future__ import annotations

from seatrial.differential import registry, sweep, tracing, tracking
from seatrial.differential.operations import table
from seatrial.differential.pair import Area

TRACKING = Area(
    "tracking",
    table(tracking.OPERATIONS, tracking.READS),
    tracking.OPERATIONS,
    ("create_experiment", "create_run"),
    tracking.reads,
    sweep.tracking(),
)
_RUNS = tuple(each for each in tracking.OPERATIONS if each.name in TRACKING.first)
REGISTRY = Area(
    "registry",
    table(registry.OPERATIONS, registry.READS, _RUNS),
    registry.OPERATIONS,
    (*TRACKING.first, "create_registered_model", "create_model_version"),
    registry.reads,
    registry.fixed(),
)
TRACING = Area(
    "tracing",
    table(tracing.OPERATIONS, tracing.READS, _RUNS),
    tracing.OPERATIONS,
    (*TRACKING.first, "start_trace", "log_spans"),
    tracing.reads,
    tracing.fixed(),
)
