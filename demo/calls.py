"""What arrived at a service, for tests and the curious: `GET /-/calls` shows it, `DELETE /-/calls` starts afresh."""

import asyncio
from collections import Counter, deque

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

RECENT = 100
UNCOUNTED = ("/-/calls", "/healthz")


class Calls:
    """An ASGI layer that counts each call as it arrives, and may hold it back for a while."""

    def __init__(self, app: ASGIApp, routes: list[BaseRoute], latency: float) -> None:
        self.app, self.routes, self.latency = app, routes, latency
        self.by: Counter[str] = Counter()
        self.recent: deque[dict[str, str | None]] = deque(maxlen=RECENT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in UNCOUNTED:
            self.count(scope)
            if self.latency:
                await asyncio.sleep(self.latency)
        await self.app(scope, receive, send)

    def count(self, scope: Scope) -> None:
        name, headers = self.name_of(scope), Headers(scope=scope)
        self.by[name] += 1
        kept = {header: headers.get(header) for header in ("traceparent", "x-request-id")}
        self.recent.append({"call": name, "path": scope["path"][:200], **kept})

    def name_of(self, scope: Scope) -> str:
        """The route's pattern, not the path: as many names as there are routes."""
        for route in self.routes:
            if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
                return f"{scope['method']} {route.path}"
        return "other"

    async def show(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.by.clear()
            self.recent.clear()
        return JSONResponse({"calls": self.by.total(), "by": self.by, "recent": list(self.recent)})
