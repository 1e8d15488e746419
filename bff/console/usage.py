"""`/-/usage`: who has used what, by GraphQL coordinate and REST route, client and day."""

from __future__ import annotations

from fastapi import APIRouter, Response

from bff.core.usage import Usage


def usage(counted: Usage) -> APIRouter:
    """As the file has it, with what has been counted since."""
    pages = APIRouter()

    @pages.get("/-/usage")
    async def kept() -> Response:
        counts = await counted.kept()
        return Response(counts.encoded(shared=counted.settings.path is not None), media_type="application/json")

    return pages
