"""`/-/limits`: what callers have left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def limits_of_all(said: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of several processes, what `/-/limits` says of them together: accounts are one, unless their store is away."""
    return said[0] | {"accounts": sum(each["accounts"] for each in said)}
