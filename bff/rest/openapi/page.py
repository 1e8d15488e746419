"""Swagger UI at `openapi.page`: the document for people, who see what the credential that they enter may do."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import orjson
from starlette.responses import HTMLResponse
from starlette.types import Receive, Scope, Send

from bff.core.assets import PAGE_HEADERS, Assets, missing

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
        # It is in a script element, which nothing but `</script` can end.
        text = orjson.dumps(settings).decode().replace("<", "\\u003c")
        shown = title.replace("&", "&amp;").replace("<", "&lt;")
        self._html = _PAGE.format(assets=assets, settings=text, title=shown)
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


_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{assets}/docs.css">
<script type="application/json" id="settings">{settings}</script>
<script type="module" src="{assets}/docs.js"></script>
</head>
<body>
<div id="page"><p>The documentation is loading. It needs JavaScript.</p></div>
</body>
</html>
"""
