"""Which route a request is for: the most specific one whose path, method and conditions it meets.

What a route wants of the caller is judged once the caller is known, and before anything that depends on the route is;
what it wants of the body innermost, among routes that agree on all that is judged before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bff.core.errors import MethodNotAllowed, NotFound
from bff.core.head import head
from bff.core.receive import Client
from bff.core.request import RequestView
from bff.core.route import Route
from bff.edge.routing.conditions import Stage, clashes, stage
from bff.edge.routing.matcher import Match, Matcher
from bff.edge.routing.settings import RouteSettings, route

__all__ = [
    "BodyRouting",
    "Described",
    "Match",
    "Matcher",
    "RouteSettings",
    "Routing",
    "clashes",
    "reads_bodies",
    "route",
]

Described = Callable[[bytes], frozenset[str] | None]

_HEAD = Stage.HEAD  # what is read of an enum's class takes several times as long as a name
_NOTHING_HERE = "There is nothing at this path"


class Routing:
    """Writes the route into `scope["bff.route"]`, and what its template captured into `scope["bff.captured"]`.

    Where that depends on the caller or the body, it is the route that goes first if all its conditions hold, and
    `scope["bff.settle"](scope)` is for whoever knows the caller, before it judges anything by the route.

    Args:
        app: the layer below.
        matcher: of all routes.
        described: which methods a path has, where the service's own document says it: `Allow` names no others.
    """

    def __init__(self, app: ASGIApp, matcher: Matcher, described: Described = lambda _: None) -> None:
        self.app = app
        self.matcher = matcher
        self.described = described

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        method = scope.get("method", "GET")  # a websocket's handshake is a GET
        path = scope["raw_path"]
        matches = self.matcher.known.get((method, path)) or self.matcher.matches(method, path, RequestView(scope))
        if matches:
            _choose(scope, matches)
            if matches[0].stage is not _HEAD:
                scope["bff.settle"] = partial(_settle, matches)
            app = self.app
            return app(scope, receive, send)
        allowed = self.matcher.methods(path, RequestView(scope))
        if not allowed:
            raise NotFound(_NOTHING_HERE)
        known = self.described(path)
        allow = ", ".join(sorted({*(allowed if known is None else known.intersection(allowed)), "OPTIONS"}))
        if method != "OPTIONS":
            raise MethodNotAllowed(f"This path answers {allow}", headers={"allow": allow})
        return _say_what_is_allowed(allow, send)


def _choose(scope: Scope, matches: list[Match]) -> None:
    if not matches:
        raise NotFound(_NOTHING_HERE)
    scope["bff.route"], scope["bff.captured"] = matches[0].route, matches[0].captured


def _settle(matches: list[Match], scope: Scope) -> None:
    """Now that `scope["bff.caller"]` is there: leave those that only the body can decide between, if any.

    Raises:
        NotFound: none is left.
    """
    view, left = RequestView(scope), list[Match]()
    for each in matches:
        if each.stage is Stage.CALLER and not _holds(each, view):
            continue
        left.append(each)
        if each.stage is not Stage.BODY:
            break
    _choose(scope, left)
    scope["bff.undecided"] = left if left[0].stage is Stage.BODY else None


def _holds(match: Match, view: RequestView) -> bool:
    return match.route.when is None or match.route.when.holds(view)


def reads_bodies(routes: Iterable[Route]) -> bool:
    """Whether `BodyRouting` has anything to do."""
    return any(stage(each) is Stage.BODY for each in routes)


class BodyRouting:
    """Innermost, since it reads bodies: for callers who may pass and have paid, within the route's `max_body`.

    Only JSON is read; of any other body, nothing is known to conditions.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        undecided: list[Match] | None = scope.get("bff.undecided")
        if undecided is None:
            await self.app(scope, receive, send)
            return
        view = RequestView(scope)
        view["body"] = None
        if scope["type"] == "http" and _is_json(scope):
            route: Route = scope["bff.route"]
            with Client(scope, receive, route.max_body) as client:
                body = await client.whole_body(asyncio.get_running_loop().time() + route.timeout)
            view["body"], receive = _parsed(body), _replayed(body, receive)
        _choose(scope, [each for each in undecided if each.stage is not Stage.BODY or _holds(each, view)])
        await self.app(scope, receive, send)


def _is_json(scope: Scope) -> bool:
    kind = head(scope).values.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return kind == b"application/json" or kind.endswith(b"+json")


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _replayed(body: bytes, receive: Receive) -> Receive:
    waiting = [body]

    async def replayed() -> Message:
        return {"type": "http.request", "body": waiting.pop(), "more_body": False} if waiting else await receive()

    return replayed


async def _say_what_is_allowed(methods: str, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", methods.encode())]})
    await send({"type": "http.response.body"})
