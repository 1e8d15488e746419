"""Websockets of REST routes: passed on to the service, both ways, message by message, each side as slow as the other.

The handshake is a request of its route like any other: who asks is known, may pass and has paid before the service is
asked, and a refusal of its own or of the gateway's is a plain answer. After RFC 6455; of its close codes the gateway
itself says 1001 when it ends or nobody says anything, 1008 when the credential ends, 1009 for what is too large,
1013 for who is to come again, and 1014 where the service broke off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, Protocol

import httpx
from prometheus_client import Counter, Gauge
from pydantic import Field
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from bff.core.errors import (
    NotFound,
    Overloaded,
    ShuttingDown,
    Unauthenticated,
    UpstreamBadResponse,
    UpstreamUnavailable,
)
from bff.core.identity import Caller
from bff.core.lasting import Judge, Seats, end_of
from bff.core.origins import check_origin
from bff.core.route import Route
from bff.core.settings import Duration, Settings, Size, WebOrigin
from bff.core.telemetry import OTHER, Telemetry
from bff.rest.names import comes_down, end_to_end
from bff.rest.relay import failed, presentable
from bff.rest.rewrite import target_of
from bff.rest.told import request_headers
from bff.upstream.client import Headers, Service
from bff.upstream.phases import Phase
from bff.upstream.websocket import SWITCHED, Wanted

if TYPE_CHECKING:
    from bff.rest.transform import Transformation

_NO_STATUS: Final = 1005
_ABNORMAL: Final = 1006
_POLICY: Final = 1008
_TOO_LARGE: Final = 1009
_BAD_GATEWAY: Final = 1014
# Those of RFC 6455 §7.4.1 and IANA's registry that may be sent; 3000 and above are whatever both agree on.
_STANDARD: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
_COUNTED: Final = (*sorted(_STANDARD), _NO_STATUS, _ABNORMAL)
_REASON: Final = 123  # bytes that a close frame has room for (RFC 6455 §5.5)


class WebsocketSettings(Settings):
    max_message: Size = 1024 * 1024
    """Bytes of one message, either way; a larger one closes with 1009."""
    max_pending: Annotated[Size, Field(ge=1024)] = 64 * 1024
    """Bytes on their way to whoever is slow, each way, beside a message or two; then the other side waits."""
    idle_timeout: Annotated[Duration, Field(ge=0.1)] = 600.0
    """Without a message either way, it is closed with 1001."""
    heartbeat: Annotated[Duration, Field(ge=0.1)] = 15.0
    """Between pings to the service, and for its answer to one; clients have `graphql.subscriptions.heartbeat`."""
    max_per_caller: Annotated[int, Field(ge=1, le=100_000)] = 20
    """At a time, of this route; one more is refused with 429."""
    max_open: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """At a time, of this route and process; one more is refused with 503. `server.max_connections` counts them, too."""
    origins: tuple[WebOrigin, ...] = ()
    """Pages that may open one, `https://shop.example.com`, beside those of this host and of `server.cors`."""


class End(NamedTuple):
    """How one ends.

    Attributes:
        code, reason: as they are told.
        by: who is not told, since it said so itself.
    """

    code: int
    reason: str = ""
    by: str = ""


_GOING_AWAY: Final = End(1001, "The gateway is going away: come again")


class Bounded(Protocol):
    """What our own server offers beside ASGI, in `scope["bff.socket"]`."""

    def bound(self, message: int, pending: int) -> None:
        """Take no larger messages, and have no more wait for the client."""


class Websockets:
    """An ASGI app for those of all routes that have any.

    Args:
        settings: by the names of the routes.
        services: by the names that routes use.
        transformations: of routes that have some, by their names.
        judge: of the credentials of those who stay.
        pages: origins whose pages may use the gateway.
        telemetry: where they are counted.
        clock: seconds since 1970, by which credentials expire.
    """

    def __init__(
        self,
        settings: Mapping[str, WebsocketSettings],
        services: Mapping[str, Service],
        transformations: Mapping[str, Transformation],
        judge: Judge,
        pages: Iterable[str],
        telemetry: Telemetry,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._services, self._transformations = settings, services, transformations
        self._judge, self._clock, self._audit = judge, clock, telemetry.audit
        pages = frozenset(pages)
        self._origins = {name: pages.union(each.origins) for name, each in settings.items()}
        self._seats = {name: Seats(each.max_per_caller, "websockets") for name, each in settings.items()}
        self._sessions: dict[Session, asyncio.Task[object] | None] = {}
        self._draining = False
        active = Gauge(
            "http_websockets", "Websockets of routes that are open.", ["http_route"], registry=telemetry.registry
        )
        self._active = {name: active.labels(name) for name in settings}
        closed = Counter(
            "http_websockets_closed", "Of these, those closed.", ["http_route", "code"], registry=telemetry.registry
        )
        self._closed = {
            (name, code): closed.labels(name, str(code)) for name in settings for code in (*_COUNTED, OTHER)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route: Route = scope["bff.route"]
        settings = self._settings.get(route.name)
        if settings is None or route.service is None:
            raise NotFound("There is no websocket at this path")
        if self._draining:
            raise ShuttingDown
        if len(self._seats[route.name]) >= settings.max_open:
            raise Overloaded("There are as many websockets as there may be", retry_after=1)
        check_origin(scope["headers"], self._origins[route.name])
        caller: Caller = scope["bff.caller"]
        if route.cost and (tab := scope["bff.tab"](caller)) is not None:
            await tab.take(route.cost)
        client = scope.get("client")
        with self._seats[route.name].taken(caller.account_at(client[0] if client else None)):
            await receive()
            response = await self._opened(scope, route, self._services[route.service], settings)
            if response.status_code == SWITCHED:
                await self._pass_on(scope, receive, send, response, settings)
            else:
                await _refuse(response, scope, send)

    async def close(self) -> None:
        """Send every client to another gateway, and begin with no more."""
        self._draining = True
        sessions = dict(self._sessions)
        for each in sessions:
            each.end(_GOING_AWAY)
        if tasks := [task for task in sessions.values() if task is not None]:
            await asyncio.wait(tasks)

    async def _opened(
        self, scope: Scope, route: Route, service: Service, settings: WebsocketSettings
    ) -> httpx.Response:
        """The service's answer, as it may be seen."""
        target, headers = target_of(route, scope), _less_ours(request_headers(scope))
        changes, scope = self._transformations.get(route.name), {**scope, "method": "GET"}
        if changes is not None:
            headers = changes.told(headers, scope)
        wanted = Wanted(scope["subprotocols"], settings.max_message, settings.max_pending, settings.heartbeat)
        if service.sockets is None:
            raise UpstreamUnavailable(service.name)
        response = await service.open(service.sockets, target, headers, scope["bff.origin"], websocket=wanted)
        if response.status_code < 300 and response.status_code != SWITCHED:
            why = "A service answers the handshake of a websocket with something else"
            raise UpstreamBadResponse(service.name, why, phase=Phase.FIRST_BYTE)
        if not presentable(response, service, route, target, scope):
            raise await failed(response, service)
        if changes is not None:
            await changes.answer(response, service.name, scope)
        return response

    async def _pass_on(
        self, scope: Scope, receive: Receive, send: Send, response: httpx.Response, settings: WebsocketSettings
    ) -> None:
        name = scope["bff.route"].name
        socket: ClientConnection = response.extensions["websocket"]
        bounded: Bounded | None = scope.get("bff.socket")
        if bounded is not None:
            bounded.bound(settings.max_message, settings.max_pending)
        session = Session(socket, receive, send, settings.idle_timeout)
        session.ends_at(end_of(scope["bff.caller"], self._clock()))
        watch = (
            None if scope["bff.caller"].is_anonymous else asyncio.create_task(self._end_when_revoked(scope, session))
        )
        self._sessions[session] = asyncio.current_task()
        if self._draining:  # since its service was asked
            session.end(_GOING_AWAY)
        self._active[name].inc()
        end = End(_ABNORMAL)
        try:
            headers = _less_ours(end_to_end(response.headers.raw, comes_down))
            await send({"type": "websocket.accept", "subprotocol": socket.subprotocol, "headers": headers})
            end = await session.run()
        except OSError:
            pass  # the client has gone before it began
        finally:
            if watch is not None:
                watch.cancel()
            session.cut()
            del self._sessions[session]
            self._active[name].dec()
            scope["bff.close"] = end.code
            self._closed[name, end.code if end.code in _COUNTED else OTHER].inc()

    async def _end_when_revoked(self, scope: Scope, session: Session) -> None:
        await self._judge.until_revoked(scope)
        revoked = End(_POLICY, "The credential is no longer what it was: connect anew")
        route, request_id = scope["bff.route"].name, scope["bff.request_id"]
        self._audit(
            "refused",
            request_id=request_id,
            code=Unauthenticated.code,
            reason=revoked.reason,
            route=route,
            method="WEBSOCKET",
        )
        session.end(revoked)


class Session:
    """One that is open, at both ends.

    Args:
        service: its other end.
        receive, send: the client's.
        idle: seconds without a message, after which it is over.
    """

    def __init__(self, service: ClientConnection, receive: Receive, send: Send, idle: float) -> None:
        self._service, self._receive, self._send, self._idle = service, receive, send, idle
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[End] = self._loop.create_future()
        self._heard = self._loop.time()
        self._alarms = [self._loop.call_later(idle, self._look)]

    def end(self, end: End) -> None:
        if not self._over.done():
            self._over.set_result(end)

    def ends_at(self, when: float | None) -> None:
        """Its credential is good until then, by the loop's clock."""
        if when is not None:
            expired = End(_POLICY, "The credential has expired: connect with a new one")
            self._alarms.append(self._loop.call_at(when, self.end, expired))

    async def run(self) -> End:
        """Pass messages on, until one side says that it is over or we do; then tell the other, or both."""
        ways = [asyncio.create_task(self._up()), asyncio.create_task(self._down())]
        try:
            await asyncio.wait([*ways, self._over], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in ways:
                each.cancel()
            await asyncio.wait(ways)
        ended = [each.result() for each in ways if not each.cancelled()]
        end = ended[0] if ended else self._over.result()
        await self._tell(end)
        return end

    def cut(self) -> None:
        for each in self._alarms:
            each.cancel()
        self._service.transport.abort()

    async def _up(self) -> End:
        while (message := await self._receive())["type"] == "websocket.receive":
            self._heard = self._loop.time()
            text: str | None = message.get("text")
            try:
                await self._service.send(message["bytes"] if text is None else text)
            except ConnectionClosed as closed:
                return _said_by_service(closed)
        code: int = message.get("code", _NO_STATUS)
        reason: str | None = message.get("reason")
        if code == _NO_STATUS and reason is None:  # it did not say so itself
            code = _ABNORMAL
        return End(code, reason or "", by="client")

    async def _down(self) -> End:
        try:
            while True:
                message = await self._service.recv()
                self._heard = self._loop.time()
                kind = "text" if isinstance(message, str) else "bytes"
                await self._send({"type": "websocket.send", kind: message})
        except ConnectionClosed as closed:
            return _said_by_service(closed)
        except OSError:
            return End(_ABNORMAL, by="client")

    async def _tell(self, end: End) -> None:
        code = _sendable(end.code)
        reason = end.reason.encode()[:_REASON].decode(errors="ignore")
        if end.by != "client":
            with suppress(OSError):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
        if end.by != "service":
            await self._service.close(code, reason)  # within a time of its own

    def _look(self) -> None:
        left = self._heard + self._idle - self._loop.time()
        if left <= 0:
            self.end(End(1001, "Nobody said anything for too long"))
        else:
            self._alarms[0] = self._loop.call_later(left, self._look)


def _said_by_service(closed: ConnectionClosed) -> End:
    if closed.rcvd is not None and (closed.sent is None or closed.rcvd_then_sent):
        return End(closed.rcvd.code, closed.rcvd.reason, by="service")
    if closed.sent is not None and closed.sent.code == _TOO_LARGE:
        return End(_TOO_LARGE, "The service sent a larger message than this route takes", by="service")
    return End(_BAD_GATEWAY, "The service broke off", by="service")


def _sendable(code: int) -> int:
    """The code of a close frame that says the same: some are only ever told by one's own end."""
    if code in _STANDARD or 3000 <= code < 5000:
        return code
    return 1000 if code == _NO_STATUS else 1001


def _less_ours(headers: Headers) -> Headers:
    """Without what each handshake has of its own."""
    return [header for header in headers if not header[0].startswith(b"sec-websocket-")]


async def _refuse(response: httpx.Response, scope: Scope, send: Send) -> None:
    """In the service's own words."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": _POLICY})
        return
    body = await response.aread()
    headers = [each for each in end_to_end(response.headers.raw, comes_down) if each[0] != b"content-length"]
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "websocket.http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
