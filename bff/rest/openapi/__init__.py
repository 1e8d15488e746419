"""What clients can learn of the REST routes: an OpenAPI document at `openapi.path`, and a page of it for people.

A caller with entitlements gets what they leave of it, so that what is visible is what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated

import orjson
from pydantic import Field
from starlette.types import Receive, Scope, Send

from bff.core.entitlements import NOTHING, Entitlements, Tables
from bff.core.head import head
from bff.core.settings import Settings
from bff.rest.openapi.document import Description

Path = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)+$")]


class OpenApiSettings(Settings):
    """The description of the REST routes."""

    enabled: bool = False
    """Whether there is one; in development there is."""
    path: Path = "/openapi.json"
    """Where it is."""
    page: Path | None = "/docs"
    """Where people can read it, and try it out; nowhere: null."""
    public: bool = True
    """Whether no credential is needed to read it."""
    title: str = "API"
    """What it is called."""
    version: str = "1.0.0"
    """Which version of it this is."""


class _Body:
    def __init__(self, description: Description, table: Entitlements | None) -> None:
        self.content = orjson.dumps(description.of(table))
        self.tag = b'"%b"' % sha256(self.content).hexdigest()[:32].encode()


class OpenApi:
    """An ASGI app for `openapi.path`: the document that the caller's entitlements leave, made once for each table."""

    def __init__(self, description: Description, tables: Tables) -> None:
        self._tables = tables
        self._whole = _Body(description, None)
        self._left: Mapping[str, _Body] = {name: _Body(description, table) for name, table in tables.tables.items()}
        self._nothing = _Body(description, NOTHING)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        name = self._tables.name(scope["bff.caller"])
        found = self._whole if name is None else self._left.get(name, self._nothing)
        fresh = head(scope).values.get(b"if-none-match") == found.tag
        headers = [
            (b"etag", found.tag),
            (b"cache-control", b"private, no-cache"),
            (b"vary", b"Authorization, X-API-Key"),
        ]
        if not fresh:
            headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(found.content))]
        await send({"type": "http.response.start", "status": 304 if fresh else 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if fresh or scope["method"] == "HEAD" else found.content})
