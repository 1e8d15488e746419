"""The gateway's app itself: the layers of the edge, and the front that a request goes to behind them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from time import monotonic
from typing import Any, cast

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from bff.core.asked import Asked
from bff.core.deadline import REQUEST_TIMEOUT, seconds_asked
from bff.core.identity import Caller
from bff.core.route import Front
from bff.upstream import Origin, ServiceSettings

CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
"""What of a request goes on to services that ask for it."""
_BY_REQUEST = frozenset({Front.REST, Front.AGGREGATE})  # of GraphQL, operations are counted


class Gateway(FastAPI):
    """The framework's app below our layers instead of around them: what they answer never crosses its own."""

    def __init__(self, layers: Sequence[Middleware], **options: Any) -> None:
        super().__init__(**options)
        self.layers = layers

    def build_middleware_stack(self) -> ASGIApp:
        app = self.framework = super().build_middleware_stack()
        for layer, arguments, options in reversed(self.layers):
            # Its method, since Python enters a method of its own without a detour, and a callable object with one.
            app = layer(app, *arguments, **options).__call__
        self.outermost = app
        return app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As the framework's, less what it measures for itself. Its lifespan is no business of the layers."""
        await (self.framework if scope["type"] == "lifespan" else self.answer)(scope, receive, send)

    def answer(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """The same for a request."""
        scope["app"] = self
        outermost = self.outermost
        return outermost(scope, receive, send)


class Fronts:
    """Hands a request to the front of its route, with what services are told of it in `scope["bff.origin"]`.

    Straight, since the framework's own router would look the route up again.

    Args:
        app: the framework's.
        fronts: where requests go.
        services: what they may ask.
        count: is told of each request to a route of REST, and of who sent it.
    """

    def __init__(
        self,
        app: ASGIApp,
        fronts: Mapping[Front, ASGIApp],
        services: Collection[ServiceSettings] = (),
        count: Callable[[str, Caller], None] = lambda *_: None,
    ) -> None:
        self.app = app
        self.fronts = fronts
        self._answers: dict[Front, ASGIApp] = {front: cast("Any", each).__call__ for front, each in fronts.items()}
        self.count = count
        self.forwards = any(each.forward_credentials for each in services)
        self.balances = any(each.targets for each in services)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        route = scope.get("bff.route")
        if route is None:
            return self.app(scope, receive, send)
        asked = scope["bff.head"].values.get(REQUEST_TIMEOUT)
        caller = scope["bff.caller"]
        if route.front in _BY_REQUEST:
            self.count(route.name, caller)
        seconds = route.timeout if asked is None else min(route.timeout, seconds_asked(asked))
        deadline = monotonic() + seconds
        own = tuple(each for each in scope["headers"] if each[0] in CREDENTIALS) if self.forwards else ()
        scope["bff.origin"] = Origin(
            caller,
            scope["bff.trace"],
            scope["bff.request_id"],
            deadline,
            own,
            hurried=seconds < route.timeout,
            asked=Asked(scope) if self.balances else None,
            waits=scope.get("bff.waits"),
            waterfall=scope.get("bff.waterfall"),
        )
        return self._answers[route.front](scope, receive, send)
