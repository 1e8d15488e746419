"""`/-/drain`: by `/readyz`, load balancers are told to send nothing more, and told otherwise again."""

from __future__ import annotations

from fastapi import APIRouter

from bff.console.readiness import Readiness
from bff.core.telemetry import Telemetry


def drain(readiness: Readiness, telemetry: Telemetry) -> APIRouter:
    """Requests that come all the same are answered."""
    pages = APIRouter()

    def _set(*, draining: bool) -> dict[str, bool]:
        readiness.told_to_drain = draining
        telemetry.audit("drain" if draining else "drain_ended")
        return {"draining": draining}

    @pages.put("/-/drain")
    async def begin() -> dict[str, bool]:
        return _set(draining=True)

    @pages.delete("/-/drain")
    async def end() -> dict[str, bool]:
        return _set(draining=False)

    @pages.get("/-/drain")
    async def asked() -> dict[str, bool]:
        return {"draining": readiness.told_to_drain or readiness.draining}

    return pages
