"""The published schema of `report.json`: `python -m seatrial.reports.schema` makes it anew."""

from __future__ import annotations

import json
import sys

from seatrial.project import PACKAGE
from seatrial.reports.model import VERSION, Report

PUBLISHED = PACKAGE / "reports" / f"report-{VERSION}.schema.json"
"""The file, which is part of the package."""


def text() -> str:
    """The JSON schema of the model."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:seatrial:report:{VERSION}",
        **Report.model_json_schema(mode="serialization"),
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
