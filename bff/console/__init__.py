"""The operators' side, on the admin port alone: is it alive, is it ready, what does it measure, and why."""

from __future__ import annotations

from collections.abc import Iterable
from hmac import compare_digest
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Response
from fastapi.telemetry import TelemetryConfig
from prometheus_client.exposition import choose_encoder

from bff.console.limits import limits
from bff.console.readiness import Readiness
from bff.console.requests import requests
from bff.console.upstreams import upstreams
from bff.core.settings import Secret
from bff.core.telemetry import Telemetry

__all__ = ["Readiness", "admin", "limits", "requests", "upstreams"]


def admin(
    telemetry: Telemetry, readiness: Readiness, pages: Iterable[APIRouter], *, token: Secret | None, metrics: bool
) -> FastAPI:
    """The app of the admin port; `pages` are what is under `/-/`, one router a topic, each behind the token."""
    quiet: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPI(title="Gateway administration", docs_url=None, redoc_url=None, openapi_url=None, telemetry=quiet)

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready(response: Response) -> dict[str, object]:
        problems = await readiness.problems()
        response.status_code = 503 if problems else 200
        return {"status": "unavailable", "problems": problems} if problems else {"status": "ok"}

    if metrics:

        @app.get("/metrics")
        def measured(accept: Annotated[str, Header()] = "") -> Response:
            # Who asks for OpenMetrics gets exemplars too.
            encode, kind = choose_encoder(accept)
            return Response(encode(telemetry.registry), media_type=kind)

    def operator(authorization: Annotated[str, Header()] = "") -> None:
        if token and not compare_digest(authorization.encode(), f"Bearer {token.reveal()}".encode()):
            raise HTTPException(401, "The admin token is needed", {"WWW-Authenticate": "Bearer"})

    for page in pages:
        app.include_router(page, dependencies=[Depends(operator)])
    return app
