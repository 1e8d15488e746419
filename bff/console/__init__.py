"""The operators' side, on the admin port alone: is it alive, is it ready, what does it measure."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from hmac import compare_digest
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Response
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from bff.core.errors import GatewayError
from bff.core.identity import ANONYMOUS
from bff.core.settings import Secret
from bff.core.telemetry import Telemetry
from bff.core.trace import Trace
from bff.edge.limits import Accounts
from bff.upstream.client import Origin, Service

_PROBE = Trace("0" * 31 + "1", "0" * 15 + "1", sampled=False)


class Readiness:
    """Ready while nothing is being shut down and every required service answers.

    Args:
        required: the services without which the gateway is of no use.
        timeout: seconds for one answer.
    """

    def __init__(self, required: Mapping[str, Service], timeout: float = 1.0) -> None:
        self.draining = False
        self._required = required
        self._timeout = timeout

    async def problems(self) -> dict[str, str]:
        """What is in the way, by the name of what it is."""
        if self.draining:
            return {"gateway": "shutting down"}
        answers = await asyncio.gather(*(self._probe(service) for service in self._required.values()))
        return {name: problem for name, problem in zip(self._required, answers, strict=True) if problem}

    async def _probe(self, service: Service) -> str | None:
        deadline = asyncio.get_running_loop().time() + self._timeout
        origin = Origin(ANONYMOUS, _PROBE, "readyz", deadline)
        try:
            response = await service.send("GET", b"/healthz", [], b"", origin, whole=True)
        except GatewayError as error:
            return error.detail
        await response.aclose()
        return None if response.status_code == 200 else f"/healthz answers {response.status_code}"


def admin(
    telemetry: Telemetry, readiness: Readiness, accounts: Accounts, *, token: Secret | None, metrics: bool
) -> FastAPI:
    """The app of the admin port."""
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

    def operator(authorization: Annotated[str, Header()] = "") -> None:
        if token and not compare_digest(authorization.encode(), f"Bearer {token.reveal()}".encode()):
            raise HTTPException(401, "The admin token is needed", {"WWW-Authenticate": "Bearer"})

    @app.get("/-/limits", dependencies=[Depends(operator)])
    async def limits() -> dict[str, object]:
        return accounts.shown()

    @app.get("/-/limits/{caller:path}", dependencies=[Depends(operator)])
    async def limits_of(caller: str) -> dict[str, object]:
        return accounts.of(caller)

    if metrics:

        @app.get("/metrics")
        def measured() -> Response:
            return Response(generate_latest(telemetry.registry), media_type=CONTENT_TYPE_LATEST)

    return app
