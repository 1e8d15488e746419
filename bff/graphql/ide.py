"""GraphiQL for browsers at `graphql.path`: one page, and the files that `make` bundled from npm packages for it.

Nothing on the page comes from anywhere else, and its Content-Security-Policy lets nothing run that does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bff.core.assets import PAGE_HEADERS, Assets, loading, missing
from bff.core.head import head

ASSETS: Final = Path(__file__).parent / "assets"

_HEADERS: Final = {**PAGE_HEADERS, "Vary": "Accept"}


@dataclass(frozen=True)
class Example:
    """What the page begins with, from whoever starts the gateway and knows what is behind it.

    Attributes:
        query: the document in the editor of a new tab.
        headers: gets headers with which it can be run, anew for each page, and none where they are not to be had.
    """

    query: str
    headers: Callable[[], Awaitable[Mapping[str, str]]]


class Ide:
    """Before the endpoint: the page for browsers, and its files at `assets/NAME` below it.

    Args:
        app: the endpoint.
        path: where the GraphQL endpoint is, and the page.
        example: what the page begins with.
        folder: where the files are.
    """

    def __init__(self, app: ASGIApp, path: str, example: Example | None = None, *, folder: Path | None = None) -> None:
        self.app = app
        # Relative to the page, which may be elsewhere for those who see it through another proxy.
        self._assets = f"{path.rpartition('/')[2]}/assets".lstrip("/")
        self._example = example
        self._files = Assets(folder or ASSETS, "GraphiQL")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        if "asset" in scope["bff.captured"]:
            response = await self._files.file(scope["path"].rpartition("/")[2], scope)
        elif not scope["bff.captured"] and _is_for_browsers(scope):
            response = await self._page()
        else:
            await self.app(scope, receive, send)
            return
        await response(scope, receive, send)

    async def _page(self) -> Response:
        if not self._files.has("graphiql.js"):
            return HTMLResponse(_MISSING, 404, _HEADERS)
        settings: dict[str, object] = {"assets": self._assets}
        if self._example:
            settings |= {"query": self._example.query, "headers": await self._example.headers()}
        return HTMLResponse(loading("GraphiQL", "graphiql", self._assets, settings), headers=_HEADERS)


def _is_for_browsers(scope: Scope) -> bool:
    """Whether it is a browser that opens the page, and not a query by GET."""
    accept = head(scope).values.get(b"accept", b"")
    return scope["method"] == "GET" and not scope["query_string"] and b"text/html" in accept


_MISSING: Final = missing(
    "GraphiQL",
    "The GraphQL endpoint itself answers here: send it a POST with <code>Content-Type: application/json</code>.",
)
