"""The operators' side, on the admin port alone: is it alive, is it ready, what does it measure, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, Response
from fastapi.telemetry import TelemetryConfig
from prometheus_client.exposition import choose_encoder

from bff.console.access import Operators
from bff.console.configuration import configuration
from bff.console.drain import drain
from bff.console.keys import keys
from bff.console.limits import limits
from bff.console.live import live
from bff.console.logs import logs
from bff.console.page import page
from bff.console.purges import purges
from bff.console.readiness import Readiness
from bff.console.requests import requests
from bff.console.traffic import traffic
from bff.console.upstreams import upstreams
from bff.core.settings import Secret
from bff.core.telemetry import Telemetry

__all__ = [
    "Readiness",
    "admin",
    "configuration",
    "drain",
    "keys",
    "limits",
    "live",
    "logs",
    "purges",
    "requests",
    "traffic",
    "upstreams",
]


def admin(
    telemetry: Telemetry, readiness: Readiness, pages: Iterable[APIRouter], *, token: Secret | None, metrics: bool
) -> FastAPI:
    """The app of the admin port; `pages` are what is under `/-/`, one router a topic, each for operators alone."""
    operators = Operators(token)
    quiet: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPI(title="Gateway administration", docs_url=None, redoc_url=None, openapi_url=None, telemetry=quiet)

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready(response: Response) -> dict[str, object]:
        problems = await readiness.problems()
        response.status_code = 503 if problems else 200
        said: dict[str, object] = {"status": "unavailable", "problems": problems} if problems else {"status": "ok"}
        return {**said, "config": readiness.refused} if readiness.refused else said

    if metrics:

        @app.get("/metrics", dependencies=[Depends(operators.judge_scrape)])
        def measured(accept: Annotated[str, Header()] = "") -> Response:
            # Who asks for OpenMetrics gets exemplars too.
            encode, kind = choose_encoder(accept)
            return Response(encode(telemetry.registry), media_type=kind)

    app.include_router(page())
    for each in pages:
        app.include_router(each, dependencies=[Depends(operators.judge)])
    return app
