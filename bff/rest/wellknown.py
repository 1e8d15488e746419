"""Documents about the gateway itself, at addresses that standards fix (RFC 8615)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

Document = Mapping[str, Any]


class WellKnown:
    """An ASGI app for one of them.

    Args:
        document: fixed while the gateway runs.
    """

    def __init__(self, document: Document) -> None:
        self._body = orjson.dumps(document)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        body = self._body
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"public, max-age=300"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
