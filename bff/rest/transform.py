"""One route's transformations, ready to be applied: what becomes of a request on its way up, and of the answer on its
way down. A body that is made anew is held for that, within a bound; all others stream past.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, cast

import httpx
from starlette.types import Scope

from bff.core.errors import BadRequest, UnsupportedMediaType, UpstreamBadResponse
from bff.core.receive import Client
from bff.rest.bodies import Form, is_of, kind_of, reader, writer
from bff.rest.headers import HeaderChanges
from bff.rest.names import comes_down, end_to_end
from bff.rest.settings import MessageSettings, RequestSettings, ResponseSettings, RestRouteSettings
from bff.rest.shape import BodySettings, Shape, ShapeError, check_depth
from bff.upstream.client import Headers, failure
from bff.upstream.phases import Phase

_LARGE: Final = 128 * 1024
"""Bytes from which on a body is made anew beside the loop."""
_BODYLESS: Final = frozenset({204, 205, 304})
_PARTIAL: Final = 206
# Of a part, of a coded body, or of the bytes of one that is no more (RFC 9110 §14, §8.4, RFC 9530, RFC 1864).
_OF_OTHER_BYTES: Final = frozenset(
    {
        *(b"content-length", b"content-type", b"content-encoding", b"content-range", b"accept-ranges"),
        *(b"content-md5", b"digest", b"content-digest", b"repr-digest"),
    }
)
_ASKED_OTHERWISE: Final = frozenset({b"accept-encoding", b"range", b"if-range"})
_ACCEPT_XML: Final = b"application/xml, text/xml, */*;q=0.1"


class Transformation:
    """Of one route."""

    def __init__(self, settings: RestRouteSettings) -> None:
        request, response = settings.request, settings.response
        self._up = HeaderChanges(request.headers)
        self._down = HeaderChanges(response.headers)
        self._request = Remake(request) if request.remakes else None
        self._response = Remake(response) if response.remakes else None
        self._speaks_xml = response.decode == "xml"
        self._most = response.max_body

    async def request(
        self, headers: Headers, client: Client, scope: Scope, deadline: float
    ) -> tuple[Headers, bytes | AsyncIterator[bytes]]:
        """Headers and body as they go up.

        Raises:
            BadRequest, UnsupportedMediaType: the body is not what the route takes.
        """
        content: bytes | AsyncIterator[bytes]
        if self._request is None or not client.has_body:
            content = await client.body(deadline)
        elif content := await client.whole_body(deadline):
            headers, content = await self._remade_request(self._request, headers, content)
        return self.told(headers, scope), content

    def told(self, headers: Headers, scope: Scope) -> Headers:
        """What the service is told, but for the body."""
        if self._response is not None:
            headers = [each for each in headers if each[0] not in _ASKED_OTHERWISE]
            headers.append((b"accept-encoding", b"identity"))
            if self._speaks_xml:
                headers = [each for each in headers if each[0] != b"accept"]
                headers.append((b"accept", _ACCEPT_XML))
        return self._up.applied(headers, scope)

    async def _remade_request(self, remake: Remake, headers: Headers, content: bytes) -> tuple[Headers, bytes]:
        if not remake.takes(headers):
            wanted = kind_of(remake.decode).decode()
            raise UnsupportedMediaType(f"The body has to be {wanted}", headers={"accept": wanted})
        try:
            content = await remake(content)
        except ShapeError as error:
            raise BadRequest(f"The body {error}") from None
        return remake.described(headers, content), content

    async def answer(self, response: httpx.Response, service: str, scope: Scope) -> None:
        """Give this response the headers and the body that go down.

        Raises:
            UpstreamBadResponse: the body is not what the route is made for, or too large to be held.
        """
        headers = end_to_end(response.headers.raw, comes_down)
        remake = self._response
        if remake is not None and response.status_code != _PARTIAL:
            headers = await self._remade_answer(remake, headers, response, service, scope["method"])
        response.headers = httpx.Headers(self._down.applied(headers, scope))

    async def _remade_answer(
        self, remake: Remake, headers: Headers, response: httpx.Response, service: str, method: str
    ) -> Headers:
        if response.status_code == 304:
            return [_weak(each) for each in headers]
        if response.status_code in _BODYLESS or not remake.takes(headers) or _is_problem(headers):
            return headers
        if method == "HEAD":
            return remake.described(headers, None)
        content = await self._held(response, service)
        if not content:
            return headers
        try:
            if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in headers):
                raise ShapeError("is coded, though it was asked for as it is")  # noqa: TRY301 - one way out
            content = await remake(content, shaped=response.status_code < 300)
        except ShapeError as error:
            raise _nonsense(service, f"A service's body {error}", response) from None
        response.stream = Held(content)
        return remake.described(headers, content)

    async def _held(self, response: httpx.Response, service: str) -> bytes:
        whole: bytes | None = getattr(response.stream, "content", None)
        chunks, size = [whole or b""], len(whole or b"")
        if whole is None:
            try:
                async for chunk in cast("httpx.AsyncByteStream", response.stream):
                    size += len(chunk)
                    if size > self._most:
                        break
                    chunks.append(chunk)
            except httpx.TransportError as error:
                raise failure(service, error, response.extensions.get("attempts")) from error
            finally:
                await response.aclose()
        if size > self._most:
            raise _nonsense(service, "A service's answer is larger than this route makes anew", response)
        return b"".join(chunks)


class Held(httpx.AsyncByteStream):
    """A body that is there."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content


class Remake:
    """How one body becomes another: read, shaped, written."""

    def __init__(self, settings: MessageSettings) -> None:
        body = settings.body if isinstance(settings, RequestSettings | ResponseSettings) else None
        self.decode: Form = settings.decode or "json"
        self._encode: Form = settings.encode or "json"
        self._read = reader(self.decode, settings.lists)
        self._shape: Callable[[Any], Any] | None = Shape(body) if isinstance(body, BodySettings) else None
        self._write = writer(self._encode, settings.root)

    def takes(self, headers: Headers) -> bool:
        """Whether a body with these headers is one that it is made for."""
        return is_of(self.decode, next((value for name, value in headers if name == b"content-type"), b""))

    async def __call__(self, content: bytes, *, shaped: bool = True) -> bytes:
        """The body anew; without `shaped` only in its other form. Raises ShapeError."""
        if len(content) < _LARGE:
            return self._remade(content, shaped)
        return await asyncio.to_thread(self._remade, content, shaped)

    def _remade(self, content: bytes, shaped: bool) -> bytes:
        value = self._read(content)
        check_depth(value)
        if shaped and self._shape is not None:
            value = self._shape(value)
        try:
            return self._write(value)
        except (TypeError, UnicodeEncodeError, RecursionError):
            raise ShapeError("has something in it that cannot be written") from None

    def described(self, headers: Headers, content: bytes | None) -> Headers:
        """The headers that are true of it. `content`: None where only its head is sent."""
        kept = [_weak(each) for each in headers if each[0] not in _OF_OTHER_BYTES]
        kept.append((b"content-type", kind_of(self._encode)))
        if content is not None:
            kept.append((b"content-length", b"%d" % len(content)))
        return kept


def _nonsense(service: str, why: str, response: httpx.Response) -> UpstreamBadResponse:
    return UpstreamBadResponse(service, why, phase=Phase.BODY, attempts=response.extensions.get("attempts"))


def _weak(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """What stands for other bytes now, and for the same as before (RFC 9110 §8.8.1)."""
    name, value = header
    return (name, b"W/" + value) if name == b"etag" and value.startswith(b'"') else header


def _is_problem(headers: Headers) -> bool:
    """It is a problem here, too, whatever else the service answers with."""
    return any(name == b"content-type" and value.lower().startswith(b"application/problem+") for name, value in headers)
