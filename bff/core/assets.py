"""The files of a browser page, which `make pages` bundles from npm packages; nothing of a page comes from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Final

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from bff.core.errors import NotFound

# No script but our own files, and no eval. Editors set styles of their own, and their icons and fonts are in their CSS.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; style-src 'self' 'unsafe-inline'; "
    "font-src data:; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


class Assets:
    """A folder of them.

    Args:
        folder: where they are, or will be once they are made.
        page: what they belong to, for whoever asks for one that is not there.
    """

    def __init__(self, folder: Path, page: str) -> None:
        self.folder = folder
        self._page = page
        self._files = StaticFiles(directory=folder, check_dir=False)

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    async def file(self, name: str, scope: Scope) -> Response:
        """The answer to whoever asks for this one; raises NotFound."""
        try:
            response = await self._files.get_response(name, scope)
        except HTTPException:
            raise NotFound(f"{self._page} has no such file: `make pages` brings those it has") from None
        response.headers["Cache-Control"] = "no-cache"
        return response


def html(title: str, head: str, body: str, *, scheme: str = "light dark") -> str:
    """A page that asks for no icon. What `head` and `body` hold is HTML already.

    Args:
        title: as text.
        head: elements of its own.
        body: what is in it.
        scheme: the colour schemes that it looks right in.
    """
    return _HTML.format(title=escape(title, quote=False), head=head, body=body, scheme=scheme)


def loading(title: str, name: str, assets: str, settings: Mapping[str, object], *, scheme: str = "light dark") -> str:
    """A page whose content is made in the browser, by the bundle `name` below `assets`.

    Args:
        title: of the page.
        name: of its script and its style.
        assets: where they are, relative to the page.
        settings: what the script reads in the element `settings`.
        scheme: the colour schemes that it looks right in.
    """
    # They are in a script element, which nothing but `</script` can end.
    text = orjson.dumps(settings).decode().replace("<", "\\u003c")
    return html(
        title,
        f'<link rel="stylesheet" href="{assets}/{name}.css">\n'
        f'<script type="application/json" id="settings">{text}</script>\n'
        f'<script type="module" src="{assets}/{name}.js"></script>',
        f'<div id="page"><p>{escape(title)} is loading. It needs JavaScript.</p></div>',
        scheme=scheme,
    )


def missing(page: str, besides: str) -> str:
    """A page that says how to bring the one that was asked for; `besides` is HTML."""
    return html(f"{page} is not installed", _STYLE, _MISSING.format(page=page, besides=besides))


_HTML: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="{scheme}">
<title>{title}</title>
<link rel="icon" href="data:,">
{head}
</head>
<body>
{body}
</body>
</html>
"""

_STYLE: Final = """<style>
body { font: 1rem/1.6 system-ui, sans-serif; max-width: 34rem; margin: 18vh auto 0; padding: 0 1.5rem }
h1 { font-size: 1.4rem }
code { font: 0.95em ui-monospace, monospace; background: light-dark(#eef0f3, #2a3140); padding: 0.15em 0.4em;
  border-radius: 4px }
</style>"""

_MISSING: Final = """<h1>{page} is not installed</h1>
<p>Its files are made from npm packages. Run <code>make pages</code> in the gateway's folder, once, with a network;
then load this page again. The gateway need not be restarted.</p>
<p>{besides}</p>"""
