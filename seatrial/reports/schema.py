"""The published schema of `report.json`: `python -m seatrial.reports.schema` makes it anew."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from seatrial.project import PACKAGE
from seatrial.reports.model import VERSION, Report

if TYPE_CHECKING:
    from pydantic import BaseModel

PUBLISHED = PACKAGE / "reports" / f"report-{VERSION}.schema.json"
"""The file, which is part of the package."""


def of(model: type[BaseModel], name: str, version: int) -> str:
    """The JSON schema of a published model.

    Args:
        model: the model.
        name: such as `report`.
        version: its number.
    """
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:seatrial:{name}:{version}",
        **model.model_json_schema(mode="serialization"),
    }
    return json.dumps(schema, indent=2) + "\n"


def text() -> str:
    """The JSON schema of the report."""
    return of(Report, "report", VERSION)


if __name__ == "__main__":
    sys.stdout.write(text())
