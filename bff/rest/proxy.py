"""The REST front: a request passed on to its service, the answer passed back, both streamed and never held whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from types import MappingProxyType

from starlette.types import ASGIApp, Receive, Scope, Send

from bff.core.errors import NotFound
from bff.core.receive import Client
from bff.core.route import Route
from bff.rest.beside import beside
from bff.rest.cache import Asked, HttpCache
from bff.rest.relay import Relay, failed, presentable, start_of, trail
from bff.rest.rewrite import target_of
from bff.rest.told import request_headers, request_lines
from bff.rest.transform import Transformation
from bff.rest.validation import Validation, readable
from bff.rest.websocket import Websockets
from bff.upstream.client import Headers, Origin, Service

# Methods whose readers may wait for a length even where there is no body (RFC 9110 §8.6).
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Passthrough:
    """An ASGI app for all routes but the gateway's own.

    Args:
        upstreams: the services by the names that routes use.
        validations: of those by whose documents some route validates.
        transformations: of routes that have some, by their names.
        direct: what answers routes without a service.
        cache: for routes with `cache: true`, if there are any.
        websockets: for routes that have them, if there are any.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Service],
        validations: Mapping[str, Validation] = MappingProxyType({}),
        transformations: Mapping[str, Transformation] = MappingProxyType({}),
        direct: Mapping[str, ASGIApp] = MappingProxyType({}),
        cache: HttpCache | None = None,
        websockets: Websockets | None = None,
    ) -> None:
        self.upstreams = upstreams
        self.validations = validations
        self.transformations = transformations
        self.direct = direct
        self.cache = cache
        self.websockets = websockets
        self.relay = Relay()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        route: Route = scope["bff.route"]
        if scope["type"] == "websocket":
            if self.websockets is None:
                raise NotFound("There is no websocket at this path")
            return self.websockets(scope, receive, send)
        if route.service is None:
            return self.direct[route.name](scope, receive, send)
        return self._pass_on(route, self.upstreams[route.service], scope, receive, send)

    async def _pass_on(self, route: Route, service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        origin: Origin = scope["bff.origin"]
        changes = self.transformations.get(route.name)
        with Client(scope, receive, route.max_body) as client:
            method, target = scope["method"], target_of(route, scope)
            validation = None if route.validate == "off" else self.validations[service.name]
            cache = self.cache if route.cache else None
            looked_at = client.has_body or validation or changes or cache
            headers, said = (request_headers(scope), b"") if looked_at else ([], request_lines(scope))
            content: bytes | AsyncIterator[bytes]
            if validation is not None:
                checks = validation.checks(method, target)
                content = await checks.checked(target, headers, client, origin.deadline)
                headers = changes.told(headers, scope) if changes else headers
                headers = readable(headers) if route.validate == "both" else headers
            elif changes is not None:
                headers, content = await changes.request(headers, client, scope, origin.deadline)
            else:
                content = await client.body(origin.deadline) if client.has_body else client.no_body()
            aside = beside(scope)
            if aside is not None and aside.is_chunked and isinstance(content, bytes) and aside.trailers():
                content = _in_pieces(content)  # as it came: nothing follows a body whose length is said
            headers += _framing(method, headers, content)
            path = route.rewrite or route.path
            if cache is not None:
                told = changes is not None
                asked = Asked(service, scope, method, target, headers, content, origin, path, told, aside)
                response = await cache.answer(asked)
            else:
                response = await service.send(
                    method, target, headers, content, origin, said=said, path=path, beside=aside
                )
            if (entities := response.extensions.get("entities")) is not None:
                scope.setdefault("bff.cache", entities)
            if validation and route.validate == "both":
                await validation.read(checks, response, service, is_head=method == "HEAD")
            if not presentable(response, service, route, target, scope):
                raise await failed(response, service)
            if changes is not None:
                await changes.answer(response, service.name, scope)
            whole: bytes | None = getattr(response.stream, "content", None)
            if whole is None:
                await self.relay.pass_on(response, service.name, route, send, client, aside)
                return
            client.served()
            trail(response, aside)
            await send(start_of(response))
            await send({"type": "http.response.body", "body": whole})

    async def drain(self) -> None:
        """End what lasts: its clients go to another gateway."""
        await asyncio.gather(self.relay.close(), *([self.websockets.close()] if self.websockets else []))


async def _in_pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _framing(method: str, headers: Headers, content: bytes | AsyncIterator[bytes]) -> Headers:
    """How long the body is, where the client's own headers do not say it: a coding of its ends here."""
    if content == b"" and method not in _WITH_BODY:
        return []
    if any(name == b"content-length" for name, _ in headers):
        return []
    if isinstance(content, bytes):
        return [(b"content-length", b"%d" % len(content))]
    return [(b"transfer-encoding", b"chunked")]
