"""What a team's code holds of a service: typed calls, on behalf of one request, that fail only with a GatewayError."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cache
from math import inf
from string import ascii_letters, digits
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from msgspec.structs import replace

from bff.core.asked import Asked
from bff.core.errors import (
    DeadlineExceeded,
    GatewayError,
    UpstreamBadResponse,
    UpstreamFailed,
    UpstreamTimeout,
    UpstreamUnavailable,
    called,
    refusal,
)
from bff.core.head import lines
from bff.core.identity import Caller
from bff.core.trace import Trace
from bff.core.waits import Waits
from bff.core.waterfall import Read, Waterfall
from bff.upstream.events import EventStream, EventStreams
from bff.upstream.feeds import Feeds
from bff.upstream.gather import Gathering
from bff.upstream.phases import Phase, RefusedError, attempts_of, phase_of
from bff.upstream.retry import Retries, retry_after
from bff.upstream.wire import Beside, Fields, request_of, stream_of

if TYPE_CHECKING:
    from bff.upstream.deployments import Deployments
    from bff.upstream.health import Health
    from bff.upstream.observe import Batches

T = TypeVar("T")
Headers = list[tuple[bytes, bytes]]
Content = bytes | AsyncIterable[bytes]
Param = str | int | Sequence[str] | None
Changed = Callable[["Service", bytes, httpx.Response | None], None]
"""Given the service, the target of a call and its answer, if there was one."""

# Which deployment of the service it becomes, the transport decides.
_SOMEWHERE = httpx.URL("http://service")
_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_TICK = 0.002  # of loops whose time stands still between two looks at the clock, in whole milliseconds
_SAFE = b"-._~:@$!*()"  # what a query value may hold as it is (RFC 3986 §3.4), less what separates parameters
_ACCEPT = lines([(b"accept", b"application/json")])
_WORDS = (ascii_letters + digits + "_").encode()


class Origin(msgspec.Struct, frozen=True):
    """The request that services are called for: who asks, under which trace, and until when."""

    caller: Caller
    trace: Trace
    request_id: str
    deadline: float
    """By the loop's clock, in seconds."""
    credentials: tuple[tuple[bytes, bytes], ...] = ()
    """The client's own `Authorization` or `X-API-Key`, for services that ask for it."""
    hurried: bool = False
    """Whether the deadline is nearer than the route's: what does not end by then says nothing of its service."""
    retries: Retries | None = None
    """How many calls may be repeated on behalf of all of it, where there is a bound to that."""
    asked: Asked | None = None
    """What it says, for balancing; None where it is no client's request, or where nothing is balanced."""
    waits: Waits | None = None
    """How long it waits for services; None where nobody wants to know."""
    waterfall: Waterfall | None = None
    """Where its calls are taken down, if they are."""

    _lines: list[bytes] = []  # none until they are asked for, then one: a frozen struct has no cached properties

    def lines(self) -> bytes:
        """What services are told of the request itself."""
        if not self._lines:
            self._lines.append(self.trace.lines() + b"x-request-id: %b\r\n" % self.request_id.encode())
        return self._lines[0]


@dataclass(frozen=True)
class Service:
    """A service for as long as the gateway runs.

    Attributes:
        addresses: of its deployments.
        timeout: seconds until the head of an event stream has to be there; calls have their deadline.
        streams: its event streams; None if it has none.
        sockets: what opens websockets to it; None if it has none.
        feeds: those of its streams that are watched.
        deployments: which they are and how they do; None where the transport knows.
        health: what checks them; None where nothing does.
    """

    name: str
    addresses: Sequence[httpx.URL]
    transport: httpx.AsyncBaseTransport
    told: Callable[[Origin], bytes] = lambda origin: origin.caller.lines
    """What the service is told of who asks; where it is the same, so is the caller to that service."""
    for_anybody: bool = False
    """Whether answers do not depend on who asks."""
    gathering: Gathering | None = None
    """Where batched reads of several requests meet."""
    max_batch: int = 500
    batches: Batches | None = None
    """Where batched reads are counted."""
    max_answer: int = 16 * 1024 * 1024
    timeout: float = 2.0
    streams: EventStreams | None = None
    sockets: httpx.AsyncBaseTransport | None = None
    feeds: Feeds = field(default_factory=Feeds)
    deployments: Deployments | None = None
    health: Health | None = None
    shown: Callable[[], Mapping[str, object]] = dict
    """What operators are told of it."""
    arm: Callable[[Origin], object] | None = None
    """Which of its arms a request's calls go to, where there are several."""
    on_purge: list[Callable[[], None]] = field(default_factory=list)
    """Who sees to it that nobody joins a read that began before something was purged."""
    on_change: list[Changed] = field(default_factory=list)
    """Who is told of each call that may have changed something, once it has ended."""

    async def send(
        self,
        method: str,
        target: bytes,
        headers: Headers,
        content: Content,
        origin: Origin,
        *,
        said: bytes = b"",
        whole: bool = False,
        path: str = "",
        read: Read | None = None,
        beside: Beside | None = None,
    ) -> httpx.Response:
        """One exchange.

        Args:
            method: of HTTP.
            target: path and query below the service's address.
            headers: to be sent beside those that say who asks, and beside
            said: lines that are written out already, and say nothing of the body.
            content: the body.
            origin: the request that it is for.
            whole: whether to wait for all of the answer.
            path: as a template, and
            read: what it is for: both for those who look at it afterwards.
            beside: where hints and trailers go and come from, if anywhere.

        Raises:
            UpstreamUnavailable, UpstreamTimeout, UpstreamBadResponse, DeadlineExceeded
        """
        call = origin.waterfall and origin.waterfall.call(self.name, f"{method} {path}", read)
        extensions = {
            "target": target, "origin": origin, "recorded": origin.trace.sampled, "deadline": origin.deadline,
            "whole": whole, "beside": beside, "call": call,
        }  # fmt: skip
        request = self._request(method, headers, said, content, extensions)
        if origin.waits is not None:
            origin.waits.enter()
        response = None
        try:
            response = await self.transport.handle_async_request(request)
        except httpx.TransportError as error:
            if call:
                call.fail(phase_of(error) or "failed")
            raise failure(self.name, error, attempts_of(error)) from error
        except BaseException:
            if call:
                call.fail("cancelled")
            raise
        finally:
            if origin.waits is not None:
                origin.waits.leave()
            if self.on_change and method not in _HARMLESS:
                for told in tuple(self.on_change):  # a reload takes some away
                    told(self, target, response)
        if call:
            call.answered(response.status_code)
        return response

    async def open(
        self, transport: httpx.AsyncBaseTransport, target: bytes, headers: Headers, origin: Origin, **extensions: Any
    ) -> httpx.Response:
        """GET what goes on for as long as both sides want, on a connection beside those of calls; raises as `send`."""
        extensions |= {"target": target, "origin": origin, "recorded": origin.trace.sampled}
        request = self._request("GET", headers, b"", b"", extensions)
        try:
            async with asyncio.timeout(min(self.timeout, origin.deadline - asyncio.get_running_loop().time())):
                return await transport.handle_async_request(request)
        except TimeoutError:
            raise UpstreamTimeout(self.name, phase=Phase.FIRST_BYTE) from None
        except httpx.TransportError as error:
            raise failure(self.name, error) from error

    async def whole(self, response: httpx.Response) -> bytes:
        """All of a body, which may be on its way; raises UpstreamBadResponse if it is larger than `max_answer`."""
        there: bytes | None = getattr(response.stream, "content", None)
        if there is not None:
            return there
        chunks, size = [], 0
        try:
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > self.max_answer:
                    why = "A service's answer is too large"
                    attempts = response.extensions.get("attempts")
                    raise UpstreamBadResponse(self.name, why, phase=Phase.BODY, attempts=attempts)
                chunks.append(chunk)
        except httpx.TransportError as error:
            raise failure(self.name, error, response.extensions.get("attempts")) from error
        finally:
            await response.aclose()
        return b"".join(chunks)

    async def close(self) -> None:
        await self.feeds.close()
        await self.transport.aclose()
        for beside in (self.streams.transport if self.streams else None, self.sockets):
            if beside is not None:
                await beside.aclose()
        if self.health is not None:
            await self.health.close()

    def _request(
        self, method: str, headers: Headers, said: bytes, content: Content, extensions: dict[str, Any]
    ) -> httpx.Request:
        origin: Origin = extensions["origin"]
        fields = Fields(headers, origin.lines() + self.told(origin) + said)
        return request_of(method, _SOMEWHERE, fields, extensions, stream_of(content))


def failure(service: str, error: httpx.TransportError, attempts: int | None = None) -> GatewayError:
    """The one place where the network's errors, and those of the policies, become ours."""
    phase = phase_of(error)
    if isinstance(error, RefusedError):
        return UpstreamUnavailable(service, phase=phase, attempts=attempts, retry_after=error.retry_after)
    if isinstance(error, httpx.TimeoutException) and (phase is Phase.DEADLINE or _until(error) <= time.monotonic()):
        return DeadlineExceeded(
            f"The request ended before {service} had answered", members=called(service, phase, attempts, retryable=True)
        )
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.UnsupportedProtocol):
        return UpstreamUnavailable(service, phase=phase, attempts=attempts)
    if isinstance(error, httpx.TimeoutException):
        return UpstreamTimeout(service, phase=phase, attempts=attempts)
    return UpstreamBadResponse(service, phase=phase, attempts=attempts)


def _until(error: httpx.TransportError) -> float:
    """When the calls of the request had to end, less what timers ring early."""
    until: float = error.request.extensions.get("until", inf)
    return until - _TICK


class Upstream:
    """A service, called on behalf of one request: what batched reads and calls are given.

    async def get_user(users: Upstream, id: str) -> User:
        return await users.get("/users/{}", User, id)
    """

    __slots__ = ("origin", "read", "service")

    def __init__(self, service: Service, origin: Origin, read: Read | None = None) -> None:
        self.service = service
        self.origin = origin
        self.read = read

    def get(self, path: str, into: type[T], *segments: str, **query: Param) -> Coroutine[Any, Any, T]:
        """GET, decoded as `into`. Each `{}` of `path` takes one of `segments`; lists in `query` are joined by commas.

        Raises:
            ClientError: the service refused (4xx), with the code of that status and the service's own words.
            UpstreamError: it failed.
        """
        return self._exchange("GET", path, segments, query, into)

    async def post(
        self, path: str, into: type[T], *segments: str, json: Any = None, headers: Mapping[str, str] | None = None
    ) -> T:
        """POST `json`, decoded as `into`; raises what `get` raises. Sent once, unless it has an `Idempotency-Key`."""
        return await self._exchange("POST", path, segments, {}, into, json, headers)

    async def patch(self, path: str, into: type[T], *segments: str, json: Any = None) -> T:
        """PATCH with `json`, decoded as `into`; raises what `get` raises. Sent once."""
        return await self._exchange("PATCH", path, segments, {}, into, json)

    async def events(self, path: str, into: type[T], *segments: str, **query: Param) -> AsyncGenerator[T, None]:
        """The service's server-sent events, the data of each decoded as `into`, over as many connections as it takes.

            async for parcel in shipping.events("/parcels/{}/events", Parcel, id): ...

        A stream that ends or breaks is opened anew with the id of its last event, so that nothing is missed where the
        service numbers its events. It ends by itself only when the service says 204.

        Raises:
            ClientError: the service refused.
            UpstreamError: it failed at first, or longer than `streams.give_up_after`; or sent what does not fit.
        """
        service, streams = self.service, self.service.streams
        if streams is None:
            raise UpstreamUnavailable(service.name)
        target = _target(path, segments, query)

        async def refused(response: httpx.Response) -> GatewayError:
            async with asyncio.timeout(service.timeout):
                return self._refused(response, await self.service.whole(response))

        stream = EventStream(
            streams, lambda headers: service.open(streams.transport, target, headers, self.origin), refused
        )
        async with aclosing(stream.events()) as events:
            async for event in events:
                try:
                    value: T = _decoder(into).decode(event.data)  # type: ignore[arg-type]  # a class can be hashed
                except msgspec.MsgspecError as error:
                    raise UpstreamBadResponse(service.name, phase=Phase.BODY) from error
                yield value

    def reading(self, read: Read) -> Upstream:
        """The same for this, if anybody takes it down."""
        return self if self.origin.waterfall is None else Upstream(self.service, self.origin, read)

    def lasting(self) -> Upstream:
        """The same on behalf of what outlives the request: each call has the time that the service allows."""
        return Upstream(self.service, replace(self.origin, deadline=inf, waterfall=None))

    async def _exchange(
        self,
        method: str,
        path: str,
        segments: Sequence[str],
        query: Mapping[str, Param],
        into: type[T],
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        sent: Headers = []
        content = b""
        if json is not None:
            content = msgspec.json.encode(json)
            sent.append((b"content-type", b"application/json"))
            sent.append((b"content-length", b"%d" % len(content)))
        if headers:
            sent += [(name.lower().encode(), _header_value(value)) for name, value in headers.items()]
        target = _target(path, segments, query)
        response = await self.service.send(
            method, target, sent, content, self.origin, said=_ACCEPT, whole=True, path=path, read=self.read
        )
        there: bytes | None = getattr(response.stream, "content", None)
        body = await self.service.whole(response) if there is None else there
        if response.status_code >= 400:
            raise self._refused(response, body)
        try:
            value: T = _decoder(into).decode(body)  # type: ignore[arg-type]  # a class can be hashed
        except msgspec.MsgspecError as error:
            attempts = response.extensions.get("attempts")
            raise UpstreamBadResponse(self.service.name, phase=Phase.BODY, attempts=attempts) from error
        return value

    def _refused(self, response: httpx.Response, body: bytes) -> GatewayError:
        if response.status_code >= 500:
            attempts = response.extensions.get("attempts")
            return UpstreamFailed(self.service.name, attempts=attempts, retry_after=retry_after(response))
        try:
            problem = msgspec.json.decode(body, type=_Problem)
            detail = problem.detail or problem.title
        except msgspec.MsgspecError:
            detail = ""
        return refusal(self.service.name, response.status_code, detail, retry_after=retry_after(response))


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""


@cache
def _decoder(into: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(into)


def _header_value(value: str) -> bytes:
    # A line break would begin a header of the caller's own making; anything not ASCII is encoded as in a URL.
    return value.encode() if value.isascii() and value.isprintable() else quote(value).encode()


def _target(path: str, segments: Sequence[str], query: Mapping[str, Param]) -> bytes:
    """Path and query, everything that comes from outside quoted: an id can never become a path or a parameter."""
    if segments:
        path = path.format(*(quote(segment, safe="") for segment in segments))
    pairs = [f"{name}={_value(value)}" for name, value in query.items() if value is not None]
    return f"{path}?{'&'.join(pairs)}".encode() if pairs else path.encode()


def _value(value: Param) -> str:
    if isinstance(value, str):
        return _quoted(value, _SAFE)
    return str(value) if isinstance(value, int) else _quoted(",".join(value or ()), _SAFE + b",")


def _quoted(text: str, safe: bytes) -> str:
    # Ids are nearly always plain, and quoting five hundred of them one by one costs more than asking first.
    is_plain = text.isascii() and not text.encode().translate(None, _WORDS).strip(safe)
    return text if is_plain else quote(text, safe=safe)
