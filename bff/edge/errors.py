"""The one place where errors become answers: problems (RFC 9457) on REST, `errors` with a code on GraphQL."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bff.core.errors import Code, CsrfPrevented, Forbidden, GatewayError, ShuttingDown, Unauthenticated
from bff.core.identity import Caller
from bff.core.receive import CUT_SHORT, ClientGone
from bff.core.route import Front, Route
from bff.core.telemetry import JsonLog, Telemetry

BLANK = "about:blank"
GRAPHQL_JSON = "application/graphql-response+json"


class Errors:
    """Below `observe`, so that what it answers is seen; above all that may raise.

    Args:
        app: the layer below.
        telemetry: where refusals, and what nobody expected, are logged.
        complete: adds to a refusal what is said in the gateway's name.
    """

    def __init__(
        self, app: ASGIApp, telemetry: Telemetry, complete: Callable[[GatewayError], None] = lambda _: None
    ) -> None:
        self.app = app
        self.telemetry = telemetry
        self.complete = complete

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        app = self.app
        try:
            await app(scope, receive, send)
        except ClientGone:
            return
        except asyncio.CancelledError as error:
            if error.args != (CUT_SHORT,) or scope["bff.answer"].begun:
                raise
            _go_on()
            scope["bff.code"] = ShuttingDown.code
            await answer(ShuttingDown("The gateway ends, and this took longer than it waits"), scope, send)
        except Exception as error:
            failure = self._failure(scope, error)
            if scope["bff.answer"].begun:
                # Half an answer is out: only a broken connection can still tell the client that it is not whole.
                raise
            scope["bff.code"] = failure.code
            self._audit(scope, failure)
            await answer(failure, scope, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            failure = self._failure(scope, error)
            if begun:
                raise
            scope["bff.code"] = failure.code
            self._audit(scope, failure)
            await refuse_websocket(failure, scope, send)

    def _failure(self, scope: Scope, error: Exception) -> GatewayError:
        """What the client is told of it."""
        if not isinstance(error, GatewayError):
            return self._unexpected(scope, error)
        self.complete(error)
        return error

    def _audit(self, scope: Scope, refusal: GatewayError) -> None:
        if not _is_decision(refusal):
            return
        route: Route | None = scope.get("bff.route")
        caller: Caller | None = scope.get("bff.caller")  # none where the credential itself was refused
        self.telemetry.audit(
            "refused",
            request_id=scope.get("bff.request_id"),
            code=refusal.code,
            reason=refusal.detail,
            route=route and route.name,
            method=scope.get("method", "WEBSOCKET"),
            credential=caller and caller.credential,
            consumer=caller and caller.consumer,
            issuer=caller and caller.issuer,
        )

    def _unexpected(self, scope: Scope, error: Exception) -> GatewayError:
        return masked(error, scope.get("bff.request_id", ""), self.telemetry.log)


def _go_on() -> None:
    """Of the cancellation nothing is left to be done but the answer."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def masked(error: Exception, request_id: str, log: JsonLog) -> GatewayError:
    """What clients may know of an error that nobody expected; the log gets all of it."""
    log.error("unexpected", request_id=request_id, exc_info=error)
    return GatewayError("Something went wrong in the gateway; its log says more under this request id")


def _is_decision(error: GatewayError) -> bool:
    """Whether somebody was refused for who they are, or for what they look like; by us, and not by a service."""
    return (
        isinstance(error, Unauthenticated | Forbidden | CsrfPrevented) or "WWW-Authenticate" in error.headers
    ) and "service" not in error.members


async def answer(error: GatewayError, scope: Scope, send: Send) -> None:
    """Send what `error` says, in the words of the front that was asked."""
    route = scope.get("bff.route")
    if route is not None and route.front is Front.GRAPHQL:
        kind, body = _graphql(error, scope)
    else:
        kind, body = "application/problem+json", problem(error, scope.get("bff.request_id", ""))
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *((name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers_of(error).items()),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def refuse_websocket(error: GatewayError, scope: Scope, send: Send) -> None:
    """Answer a handshake with what `error` says, or with a plain 403 where the server cannot do better."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return

    async def send_refusal(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    await answer(error, {**scope, "method": "GET"}, send_refusal)


def headers_of(error: GatewayError) -> Mapping[str, str]:
    """The error's own headers, and `Retry-After` with the two statuses that have it."""
    if error.retry_after is None or error.status not in {429, 503}:
        return error.headers
    return {**error.headers, "Retry-After": str(_whole(error.retry_after))}


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))


def problem(error: GatewayError, request_id: str) -> bytes:
    return orjson.dumps(
        {
            "type": error.type,
            "title": HTTPStatus(error.status).phrase if error.type == BLANK else error.title,
            "status": error.status,
            "detail": error.detail,
            "code": error.code,
            "request_id": request_id,
            **error.members,
        }
    )


def _graphql(error: GatewayError, scope: Scope) -> tuple[str, bytes]:
    accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    kind = GRAPHQL_JSON if GRAPHQL_JSON.encode() in accept else "application/json"
    return kind, orjson.dumps({"errors": [entry(error, scope.get("bff.request_id", ""))]})


def entry(error: GatewayError, request_id: str) -> dict[str, Any]:
    """One of GraphQL's `errors`, without a path."""
    extensions: dict[str, Any] = {"code": error.code, **error.members}
    if error.retry_after is not None:
        extensions["retry_after"] = _whole(error.retry_after)
    if error.code == Code.INTERNAL_SERVER_ERROR:
        extensions["request_id"] = request_id
    return {"message": error.detail, "extensions": extensions}
