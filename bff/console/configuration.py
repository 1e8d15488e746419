"""`/-/config` and `/-/schema`: what is in force, and where each value came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from bff.core import loading
from bff.core.settings import Settings


def configuration(settings: Settings, origin: Mapping[str, str], schema: Callable[[], str]) -> APIRouter:
    """Secrets are never shown.

    Args:
        settings: all of them.
        origin: by dotted key, as `Loaded` has it; empty where nobody traced it.
        schema: the GraphQL schema's text.
    """
    pages = APIRouter()

    @pages.get("/-/config")
    async def values() -> list[dict[str, object]]:
        return [{"key": key, "value": value, "from": origin.get(key)} for key, value in loading.values(settings)]

    @pages.get("/-/schema")
    async def sdl() -> PlainTextResponse:
        return PlainTextResponse(schema())

    return pages
