"""Swagger UI at `openapi.page`: the document for people, who see what the credential that they enter may do."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.responses import HTMLResponse
from starlette.types import Receive, Scope, Send

from bff.core.assets import PAGE_HEADERS, Assets, loading, missing

ASSETS: Final = Path(__file__).parent / "assets"


class Page:
    """An ASGI app for the page, and for its files at `assets/NAME` below it.

    Args:
        page: its path.
        document: the path of what it shows.
        title: what it is called.
        folder: where the files are.
    """

    def __init__(self, page: str, document: str, title: str, *, folder: Path = ASSETS) -> None:
        # Relative to the page, which may be elsewhere for those who see it through another proxy.
        assets = f"{page.rpartition('/')[2]}/assets"
        settings = {"document": "../" * (page.count("/") - 1) + document.lstrip("/")}
        self._html = loading(title, "docs", assets, settings, scheme="light")
        self._assets = Assets(folder, "This page")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "asset" in scope["bff.captured"]:
            response = await self._assets.file(scope["path"].rpartition("/")[2], scope)
        elif self._assets.has("docs.js"):
            response = HTMLResponse(self._html, headers=PAGE_HEADERS)
        else:
            text = missing("Swagger UI", "The document itself is there: see openapi.path in the configuration.")
            response = HTMLResponse(text, 404, PAGE_HEADERS)
        await response(scope, receive, send)
