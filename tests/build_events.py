"""Events as BuildKit reports them, for tests of what is made of them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def vertex(
    digest: str, name: str, begin: float | None = None, end: float | None = None, **more: object
) -> dict[str, Any]:
    found: dict[str, Any] = {"digest": digest, "name": name, **more}
    if begin is not None:
        found["started"] = at(begin)
    if end is not None:
        found["completed"] = at(end)
    return found


def log(digest: str, text: str) -> dict[str, str]:
    return {"vertex": digest, "data": base64.b64encode(text.encode()).decode()}
