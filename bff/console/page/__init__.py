"""`/console`: the operators' page. It holds no data itself, but asks `/-/...`, with the token that was entered."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException, Response

_TYPES: Final = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def page() -> APIRouter:
    """Plain files, served as they are written."""
    files = {each.name: each.read_bytes() for each in Path(__file__).parent.iterdir() if each.suffix in _TYPES}
    pages = APIRouter()

    def answer(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "The console has no such file")
        return Response(files[name], media_type=_TYPES[Path(name).suffix], headers=_HEADERS)

    @pages.get("/console")
    async def index() -> Response:
        return answer("index.html")

    @pages.get("/console/{name}")
    async def file(name: str) -> Response:
        return answer(name)

    return pages
