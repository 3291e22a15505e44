"""Differences that are MLflow's own, between its databases: each with its reason.

None is wider than needed: each names the database, the operation and the answers that it is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from seatrial.differential.steps import Step


@dataclass(frozen=True)
class Known:
    """A difference between MLflow on SQLite, which the reference has, and on another database."""

    database: str
    applies: Callable[[Step, Any, Any], bool]
    """Takes the step, the reference's answer and the other one."""
    reason: str


DIFFERENCES: tuple[Known, ...] = ()


def reason(database: str, step: Step, expected: object, actual: object) -> str:
    """Why two answers may differ; empty where they must not."""
    return next(
        (
            each.reason
            for each in DIFFERENCES
            if each.database == database and each.applies(step, expected, actual)
        ),
        "",
    )
