"""MLflow's own server; every answer names the site."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlflow.server.fastapi_app import app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["app"]


@app.middleware("http")
async def name_site(
    request: Request, proceed: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Answer as MLflow does, with one header more."""
    response = await proceed(request)
    response.headers["X-Site"] = os.environ.get("SITE_NAME", "unnamed")
    return response
