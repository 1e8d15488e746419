"""`/-/requests`: the last requests that failed, that were slow, and some others, each with what it did at services."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query

from bff.core.requests import Kind, Requests


def requests(kept: Requests) -> APIRouter:
    """A list of those that are kept, and all that is known of one."""
    pages = APIRouter()

    @pages.get("/-/requests")
    async def listed(
        kind: Kind | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> dict[str, list[dict[str, Any]]]:
        found = (each for each in kept.all() if kind in {None, each.kind})
        return {"requests": [each.summary() for each in islice(found, limit)]}

    @pages.get("/-/requests/{id}")
    async def one(id: str) -> dict[str, Any]:
        found = kept.find(id)
        if found is None:
            raise HTTPException(
                404, "No request of that id is kept: it was neither slow nor failed, or others came after it"
            )
        return found.whole()

    return pages
