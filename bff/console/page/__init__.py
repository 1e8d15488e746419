"""`/console`: the operators' page. It holds no data itself, but asks `/-/...`, with the token that was entered."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import HTMLResponse

from bff.core.assets import html

_TYPES: Final = {".css": "text/css", ".js": "text/javascript"}
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
_INDEX: Final = html(
    "Console",
    """<link rel="stylesheet" href="console/console.css">
<script type="module" src="console/main.js"></script>""",
    """<a class="skip" href="#main">Skip to content</a>
<header>
  <h1>Gateway</h1>
  <nav id="nav" aria-label="Console"></nav>
  <p id="link" data-state="waiting">connecting</p>
  <button id="sign" class="quiet" type="button">Token</button>
</header>
<main id="main" tabindex="-1"><p class="empty">Loading. This page needs JavaScript.</p></main>
<p id="said" class="unseen" role="status"></p>
<dialog id="dialog" aria-labelledby="dialog-title"></dialog>""",
)


def page() -> APIRouter:
    """The page, and its scripts and styles: plain files, served as they are written."""
    files = {each.name: each.read_bytes() for each in Path(__file__).parent.iterdir() if each.suffix in _TYPES}
    pages = APIRouter()

    @pages.get("/console")
    async def index() -> Response:
        return HTMLResponse(_INDEX, headers=_HEADERS)

    @pages.get("/console/{name}")
    async def file(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "The console has no such file")
        return Response(files[name], media_type=_TYPES[Path(name).suffix], headers=_HEADERS)

    return pages
