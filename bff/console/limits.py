"""`/-/limits`: what callers have left."""

from __future__ import annotations

from fastapi import APIRouter

from bff.edge.limits import Accounts


def limits(accounts: Accounts) -> APIRouter:
    """Of all callers, or of one."""
    pages = APIRouter()

    @pages.get("/-/limits")
    async def everyone() -> dict[str, object]:
        return accounts.shown()

    @pages.get("/-/limits/{caller:path}")
    async def one(caller: str) -> dict[str, object]:
        return accounts.of(caller)

    return pages
