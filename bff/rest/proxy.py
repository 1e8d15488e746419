"""The REST front: a request passed on to its service, the answer passed back, both streamed and never held whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache
from typing import cast

import httpx
from starlette.types import Message, Receive, Scope, Send

from bff.core.deadline import REQUEST_TIMEOUT
from bff.core.errors import NotFound, UpstreamFailed
from bff.core.receive import Client
from bff.core.route import Route
from bff.rest.redirects import outward
from bff.rest.rewrite import target_of
from bff.rest.validation import Validation, readable
from bff.upstream.client import Headers, Origin, Service, failure

# RFC 9110 §7.6.1, and two names that never were standard.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_CONNECTION = len(b"connection")
_OURS = frozenset(
    {
        b"host",
        b"authorization",
        b"x-api-key",
        b"x-request-id",
        b"traceparent",
        b"tracestate",
        b"via",
        # How long is left is told anew with each attempt.
        REQUEST_TIMEOUT,
        # Who calls from where is what the connection says, not the caller.
        b"forwarded",
        b"x-real-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        # A method or a path other than the one whose scopes were checked.
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-url",
        b"x-rewrite-url",
        # CGI programs take it for their own proxy setting.
        b"proxy",
    }
)
_OURS_BY_PREFIX = (
    b"x-auth-",
    b"x-user-",
    b"x-internal-",
    b"x-forwarded-",
    # What other gateways call a caller: a service that once stood behind one may still believe it.
    b"x-authenticated-",
    b"x-consumer-",
    b"x-credential-",
    # What others who end TLS say of a client's certificate (RFC 9440).
    b"client-cert",
    b"ssl-client-",
    b"x-client-cert",
    b"x-ssl-client-",
)
# Two that tell about the inside, and the id that the gateway itself puts on every answer.
_KEPT_INSIDE = frozenset({b"server", b"x-powered-by", b"x-request-id"})
# Methods whose readers may wait for a length even where there is no body (RFC 9110 §8.6).
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_BODYLESS = frozenset({204, 304})
# Those whose `Location` leads somewhere (RFC 9110 §10.2.2).
_POINTING = frozenset({201, 301, 302, 303, 307, 308})


class Passthrough:
    """An ASGI app for all routes with a service.

    Args:
        upstreams: the services by the names that routes use.
        validations: of those by whose documents some route validates.
    """

    def __init__(self, upstreams: Mapping[str, Service], validations: Mapping[str, Validation] | None = None) -> None:
        self.upstreams = upstreams
        self.validations = validations or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route: Route = scope["bff.route"]
        if scope["type"] != "http" or route.service is None:
            raise NotFound
        service = self.upstreams[route.service]
        origin: Origin = scope["bff.origin"]
        with Client(scope, receive, route.max_body) as client:
            method, target, headers = scope["method"], target_of(route, scope), _request_headers(scope)
            validation = None if route.validate == "off" else self.validations[route.service]
            if validation is None:
                content = await client.body(origin.deadline)
            else:
                checks = validation.checks(method, target)
                content = await checks.checked(target, headers, client, origin.deadline)
            headers += _framing(method, headers, content)
            if validation and route.validate == "both":
                headers = readable(headers)
            response = await service.send(method, target, headers, content, origin)
            if validation and route.validate == "both":
                await validation.read(checks, response, service, is_head=method == "HEAD")
            if response.status_code in _POINTING:
                response.headers = httpx.Headers(
                    outward(_lower(response.headers.raw), service.addresses, target, scope)
                )
            await _relay(service.name, route, response, send, client)


# What goes up.


def _request_headers(scope: Scope) -> Headers:
    given: Headers = scope["headers"]
    headers = _end_to_end(given, _goes_up)
    via = [value for name, value in given if name == b"via"]
    headers.append((b"via", b", ".join([*via, scope["http_version"].encode() + b" bff"])))
    headers.append((b"x-forwarded-proto", scope["scheme"].encode()))
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


@lru_cache(maxsize=1024)
def _goes_up(given: bytes) -> bytes | None:
    """The name that it goes on under, in lower case as ASGI has them; None if it does not."""
    # Many servers read x_auth_subject and X-Auth-Subject as one name.
    name = given.lower().replace(b"_", b"-")
    stays = name in _HOP_BY_HOP or name in _OURS or name.startswith(_OURS_BY_PREFIX)
    return None if stays else given.lower()


def _end_to_end(headers: Headers, verdict: Callable[[bytes], bytes | None]) -> Headers:
    """Those that go on."""
    kept = [(name, value) for given, value in headers if (name := verdict(given)) is not None]
    named = b",".join(
        [value for given, value in headers if len(given) == _CONNECTION and given.lower() == b"connection"]
    )
    if named:
        hops = {name.strip().lower() for name in named.split(b",")}
        kept = [header for header in kept if header[0] not in hops]
    return kept


# What comes down.


def _lower(headers: Headers) -> Headers:
    return [(name.lower(), value) for name, value in headers]


async def _relay(service: str, route: Route, response: httpx.Response, send: Send, client: Client) -> None:
    whole: bytes | None = getattr(response.stream, "content", None)
    if whole is not None:
        start = _start(service, route, response)
        client.served()
        await send(start)
        await send({"type": "http.response.body", "body": whole})
        return
    try:
        await send(_start(service, route, response))
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


def _start(service: str, route: Route, response: httpx.Response) -> Message:
    status = response.status_code
    if status >= 500 and not route.relay_errors and not _is_problem(response):
        raise UpstreamFailed(service, attempts=response.extensions.get("attempts"))
    headers = _end_to_end(response.headers.raw, _comes_down)
    if status in _BODYLESS:
        # It is the length of what is not sent; a server would wait for it.
        headers = [header for header in headers if header[0] != b"content-length"]
    return {"type": "http.response.start", "status": status, "headers": headers}


@lru_cache(maxsize=1024)
def _comes_down(given: bytes) -> bytes | None:
    name = given.lower()
    # Whose pages may read an answer is what `server.cors` says, and not a service behind it.
    stays = name in _HOP_BY_HOP or name in _KEPT_INSIDE or name.startswith(b"access-control-")
    return None if stays else name


def _is_problem(response: httpx.Response) -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == "application/problem+json"
