"""`/-/logs/level`: the least that is written, changed while the gateway runs."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from bff.core.telemetry import Telemetry


class Level(BaseModel):
    """What is put there."""

    model_config = ConfigDict(extra="forbid")

    level: Literal["debug", "info", "warning", "error"]


def logs(telemetry: Telemetry) -> APIRouter:
    """Of this process, until it ends."""
    pages = APIRouter()

    @pages.get("/-/logs/level")
    async def level() -> dict[str, str]:
        return {"level": telemetry.log.level}

    @pages.put("/-/logs/level")
    async def change(to: Level) -> dict[str, str]:
        before, telemetry.log.level = telemetry.log.level, "warning"
        telemetry.audit("log_level", to=to.level, before=before)
        telemetry.log.level = to.level
        return {"level": to.level}

    return pages
