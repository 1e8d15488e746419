"""What comes down: a service's answer as it may be seen, passed on piece by piece, for as long as it lasts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import Final, cast

import httpx
from starlette.types import Message, Scope, Send

from bff.core.errors import ShuttingDown, UpstreamFailed
from bff.core.receive import Client
from bff.core.route import Route
from bff.rest.beside import Beside
from bff.rest.names import comes_down, end_to_end
from bff.rest.redirects import outward
from bff.upstream.bodies import outlive
from bff.upstream.client import Headers, Service, failure

_BODYLESS: Final = frozenset({204, 304})
# Those whose `Location` leads somewhere (RFC 9110 §10.2.2).
_POINTING: Final = frozenset({201, 301, 302, 303, 307, 308})
_RETRY_MS: Final = (1000, 5000)
"""Clients that all come again at once would meet a gateway that has just begun."""
_SHORT: Final = 16 * 1024
_LINE_ENDS: Final = frozenset({b"\n", b"\r"})


def presentable(response: httpx.Response, service: Service, route: Route, target: bytes, scope: Scope) -> bool:
    """Make it point its clients to the route, where it points to the service; false if it is a failure that may not be
    seen as the service tells it.
    """
    status = response.status_code
    if status in _POINTING:
        response.headers = httpx.Headers(outward(_lower(response.headers.raw), service.addresses, target, scope))
    return status < 500 or route.relay_errors or _is_problem(response)


async def failed(response: httpx.Response, service: Service) -> UpstreamFailed:
    """What is told instead of such a failure, which is read no further."""
    await response.aclose()
    return UpstreamFailed(service.name, attempts=response.extensions.get("attempts"))


class Relay:
    """Passes on answers that are still on their way. Event streams last for as long as both sides want: the route's
    `timeout` is for their head, and for each silence. When the gateway ends they do, and their clients are told when to
    come again.
    """

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()  # noqa: S311 - when somebody comes again is no secret
        self._streams: dict[asyncio.Timeout, asyncio.Task[object] | None] = {}
        self._draining = False

    async def pass_on(
        self,
        response: httpx.Response,
        service: str,
        route: Route,
        send: Send,
        client: Client,
        aside: Beside | None,
    ) -> None:
        last = b""
        try:
            if _is_event_stream(response):
                last = await self._events(response, route, send)
            else:
                await _pieces(response, send)
        except httpx.TransportError as error:
            raise failure(service, error, response.extensions.get("attempts")) from error
        finally:
            await response.aclose()
        client.served()
        trail(response, aside)
        await send({"type": "http.response.body", "body": last})

    async def close(self) -> None:
        """End all event streams, and let none begin."""
        self._draining = True
        streams = dict(self._streams)
        for until in streams:
            with suppress(RuntimeError):  # it ends already
                until.reschedule(asyncio.get_running_loop().time())
        if tasks := [task for task in streams.values() if task is not None]:
            await asyncio.wait(tasks)

    async def _events(self, response: httpx.Response, route: Route, send: Send) -> bytes:
        """Pass events on; what is still to be said once there are no more."""
        if self._draining:
            raise ShuttingDown
        outlive(response, route.timeout)
        until, pieces = asyncio.timeout(None), _Pieces(send)
        self._streams[until] = asyncio.current_task()
        try:
            async with until:
                await _pieces(response, pieces.send)
        except TimeoutError:
            # In the middle of a line it would be a part of that. An event that has not come whole is not taken for one.
            is_plain = "content-encoding" not in response.headers
            return b"retry: %d\n" % self._random.randint(*_RETRY_MS) if is_plain and pieces.at_line_end else b""
        finally:
            del self._streams[until]
        return b""


class _Pieces:
    """Remembers how the last one ended."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.at_line_end = True

    async def send(self, message: Message) -> None:
        if body := message.get("body", b""):
            self.at_line_end = False  # until all of it has gone: what ends in between may have sent a part
        await self._send(message)
        if body:
            self.at_line_end = body[-1:] in _LINE_ENDS


async def _pieces(response: httpx.Response, send: Send) -> None:
    body = aiter(cast("httpx.AsyncByteStream", response.stream))
    # The head of a short body goes out with it anyway: what breaks off before that can still be told as a failure.
    first = await anext(body, b"") if _is_short(response) else b""
    await send(start_of(response))
    if first:
        await send({"type": "http.response.body", "body": first, "more_body": True})
    # An error from here on has to leave this app: the server then cuts the connection, and a part is not taken for all.
    async for chunk in body:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})


def _is_short(response: httpx.Response) -> bool:
    length = response.headers.get("content-length", "")
    return length.isdecimal() and len(length) < 10 and int(length) <= _SHORT


def trail(response: httpx.Response, aside: Beside | None) -> None:
    """Have what has come after its body follow it."""
    if aside is not None and (trailers := response.extensions.get("trailers")):
        aside.trail(trailers)


def start_of(response: httpx.Response) -> Message:
    """How the answer begins, as it may be seen."""
    status = response.status_code
    headers = end_to_end(response.headers.raw, comes_down)
    if status in _BODYLESS:
        # It is the length of what is not sent; a server would wait for it.
        headers = [header for header in headers if header[0] != b"content-length"]
    return {"type": "http.response.start", "status": status, "headers": headers}


def _lower(headers: Headers) -> Headers:
    return [(name.lower(), value) for name, value in headers]


def _kind(response: httpx.Response) -> str:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower()


def _is_problem(response: httpx.Response) -> bool:
    return _kind(response) == "application/problem+json"


def _is_event_stream(response: httpx.Response) -> bool:
    """One whose length is known ends by itself."""
    return _kind(response) == "text/event-stream" and "content-length" not in response.headers
