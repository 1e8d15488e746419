"""`/-/limits`: what callers have left."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException

from bff.core.store import StoreUnavailable
from bff.edge.limits import Accounts


def limits(accounts: Accounts) -> APIRouter:
    """Of all callers, or of one."""
    pages = APIRouter()

    @pages.get("/-/limits")
    async def everyone() -> dict[str, object]:
        return accounts.shown()

    @pages.get("/-/limits/{caller:path}")
    async def one(caller: str) -> dict[str, object]:
        try:
            return await accounts.of(caller)
        except StoreUnavailable as error:
            raise HTTPException(503, "The store is away: what callers have left is not known") from error

    return pages
