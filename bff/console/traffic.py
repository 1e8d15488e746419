"""`/-/traffic`: rates, failures and latencies of the last five minutes."""

from __future__ import annotations

from fastapi import APIRouter

from bff.core.traffic import Traffic


def traffic(of: Traffic) -> APIRouter:
    """By route, operation and service."""
    pages = APIRouter()

    @pages.get("/-/traffic")
    async def recent() -> dict[str, object]:
        return of.shown()

    return pages
