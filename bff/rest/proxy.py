"""The REST front: a request passed on to its service, the answer passed back, both streamed and never held whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import cast

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bff.core.errors import NotFound, UpstreamFailed
from bff.core.head import head
from bff.core.receive import Client
from bff.core.route import Route
from bff.rest.cache import Asked, HttpCache
from bff.rest.names import comes_down, end_to_end, goes_up
from bff.rest.redirects import outward
from bff.rest.rewrite import target_of
from bff.rest.transform import Transformation
from bff.rest.validation import Validation, readable
from bff.upstream.client import Headers, Origin, Service, failure

# Methods whose readers may wait for a length even where there is no body (RFC 9110 §8.6).
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_BODYLESS = frozenset({204, 304})
# Those whose `Location` leads somewhere (RFC 9110 §10.2.2).
_POINTING = frozenset({201, 301, 302, 303, 307, 308})


class Passthrough:
    """An ASGI app for all routes but the gateway's own.

    Args:
        upstreams: the services by the names that routes use.
        validations: of those by whose documents some route validates.
        transformations: of routes that have some, by their names.
        direct: what answers routes without a service.
        cache: for routes with `cache: true`, if there are any.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Service],
        validations: Mapping[str, Validation] = MappingProxyType({}),
        transformations: Mapping[str, Transformation] = MappingProxyType({}),
        direct: Mapping[str, ASGIApp] = MappingProxyType({}),
        cache: HttpCache | None = None,
    ) -> None:
        self.upstreams = upstreams
        self.validations = validations
        self.transformations = transformations
        self.direct = direct
        self.cache = cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route: Route = scope["bff.route"]
        if scope["type"] != "http":
            raise NotFound
        if route.service is None:
            await self.direct[route.name](scope, receive, send)
            return
        service = self.upstreams[route.service]
        origin: Origin = scope["bff.origin"]
        changes = self.transformations.get(route.name)
        with Client(scope, receive, route.max_body) as client:
            method, target, headers = scope["method"], target_of(route, scope), _request_headers(scope)
            validation = None if route.validate == "off" else self.validations[route.service]
            content: bytes | AsyncIterator[bytes]
            if validation is not None:
                checks = validation.checks(method, target)
                content = await checks.checked(target, headers, client, origin.deadline)
                headers = changes.told(headers, scope) if changes else headers
            elif changes is not None:
                headers, content = await changes.request(headers, client, scope, origin.deadline)
            else:
                content = await client.body(origin.deadline)
            headers += _framing(method, headers, content)
            if validation and route.validate == "both":
                headers = readable(headers)
            path = route.rewrite or route.path
            asked = Asked(service, scope, method, target, headers, content, origin, path, changes is not None)
            response = await self._answer(asked, route)
            if validation and route.validate == "both":
                await validation.read(checks, response, service, is_head=method == "HEAD")
            if response.status_code in _POINTING:
                response.headers = httpx.Headers(
                    outward(_lower(response.headers.raw), service.addresses, target, scope)
                )
            if response.status_code >= 500:
                await _judge(service.name, route, response)
            if changes is not None:
                await changes.answer(response, service.name, scope)
            await _relay(service.name, response, send, client)

    async def _answer(self, asked: Asked, route: Route) -> httpx.Response:
        response = await (self.cache.answer(asked) if self.cache is not None and route.cache else asked.send())
        if (entities := response.extensions.get("entities")) is not None:
            asked.scope.setdefault("bff.cache", entities)
        return response


# What goes up.


def _request_headers(scope: Scope) -> Headers:
    given: Headers = scope["headers"]
    headers = end_to_end(given, goes_up)
    via = scope["http_version"].encode() + b" bff"
    if b"via" in head(scope).values:
        via = b", ".join([*(value for name, value in given if name == b"via"), via])
    headers += ((b"via", via), (b"x-forwarded-proto", scope["scheme"].encode()))
    if scope.get("client"):
        headers.append((b"x-forwarded-for", scope["client"][0].encode()))
    return headers


def _framing(method: str, headers: Headers, content: bytes | AsyncIterator[bytes]) -> Headers:
    """How long the body is, where the client's own headers do not say it: a coding of its ends here."""
    if content == b"" and method not in _WITH_BODY:
        return []
    if any(name == b"content-length" for name, _ in headers):
        return []
    if isinstance(content, bytes):
        return [(b"content-length", b"%d" % len(content))]
    return [(b"transfer-encoding", b"chunked")]


# What comes down.


def _lower(headers: Headers) -> Headers:
    return [(name.lower(), value) for name, value in headers]


async def _judge(service: str, route: Route, response: httpx.Response) -> None:
    """Whether a failure may be seen as the service tells it."""
    if not route.relay_errors and not _is_problem(response):
        await response.aclose()
        raise UpstreamFailed(service, attempts=response.extensions.get("attempts"))


async def _relay(service: str, response: httpx.Response, send: Send, client: Client) -> None:
    whole: bytes | None = getattr(response.stream, "content", None)
    if whole is not None:
        client.served()
        await send(_start(response))
        await send({"type": "http.response.body", "body": whole})
        return
    try:
        await send(_start(response))
        # An error from here on has to leave this app: the server then cuts the connection, and a part is not taken
        # for all.
        async for chunk in cast("httpx.AsyncByteStream", response.stream):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except httpx.TransportError as error:
        raise failure(service, error, response.extensions.get("attempts")) from error
    finally:
        await response.aclose()
    client.served()
    await send({"type": "http.response.body"})


def _start(response: httpx.Response) -> Message:
    status = response.status_code
    headers = end_to_end(response.headers.raw, comes_down)
    if status in _BODYLESS:
        # It is the length of what is not sent; a server would wait for it.
        headers = [header for header in headers if header[0] != b"content-length"]
    return {"type": "http.response.start", "status": status, "headers": headers}


def _is_problem(response: httpx.Response) -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == "application/problem+json"
