"""`/-/requests`: the last requests that failed, that were slow, and some others, each with what it did at services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Query

from bff.core.requests import KINDS, Kind, Requests

DEFAULT_LIMIT: Final = 100


def requests_of_all(said: Sequence[Mapping[str, Any]], *, most: int = DEFAULT_LIMIT) -> dict[str, Any]:
    """What several processes keep, as one says it: by kind, of each the newest first."""
    found = [request for each in said for request in each["requests"]]
    found.sort(key=lambda each: each["began"], reverse=True)
    found.sort(key=lambda each: KINDS.index(each["kind"]))
    return {"requests": found[:most]}


def requests(kept: Requests) -> APIRouter:
    """A list of those that are kept, and all that is known of one."""
    pages = APIRouter()

    @pages.get("/-/requests")
    async def listed(
        kind: Kind | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = DEFAULT_LIMIT
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
