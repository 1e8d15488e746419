"""Identical reads under way at the same time share one call: its answer, or its failure, and nothing is kept.

Identical is what the service cannot tell apart: the same caller (whoever it is, where the service says `identity:
none`), method, path, query and headers, less the ids of traces, which are those of whoever asked first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Annotated, Any, Final

import httpx
from prometheus_client import Counter
from pydantic import BeforeValidator, Field, WithJsonSchema

from bff.core.settings import Settings, Size, malformed
from bff.core.telemetry import Telemetry
from bff.upstream.bodies import read_up_to
from bff.upstream.phases import Phase, failed, phase_of
from bff.upstream.wire import NOTHING, Fields, WholeBody

_SHARED: Final = frozenset({"GET", "HEAD"})
_HARMLESS: Final = _SHARED | {"OPTIONS", "TRACE"}
# They differ from request to request, and no answer depends on them.
_IDS: Final = frozenset({b"traceparent", b"tracestate", b"x-request-id"})
_NEVER_IGNORED: Final = ("authorization", "cookie", "range", "x-api-key")
_LONGEST: Final = 86400.0  # a loop's timer takes no infinite time
_RESERVE: Final = 0.02  # for an answer to be made of whatever else has come
_TICK: Final = 0.001  # the timer of a loop may ring this much early

Key = tuple[Any, ...]


def _header(value: object) -> str:
    name = value.lower() if isinstance(value, str) else ""
    if not name.replace("-", "").isalnum() or name in _NEVER_IGNORED or name.startswith(("x-auth-", "if-")):
        raise malformed("a header's name, and none that says who asks (authorization, cookie, ...) or for which part")
    return name


HeaderName = Annotated[str, BeforeValidator(_header), WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9-]+$"})]


class CoalesceSettings(Settings):
    ignore: Annotated[tuple[HeaderName, ...], Field(max_length=50)] = ()
    """Headers that the service's answers do not depend on, such as `user-agent` or `x-forwarded-for`."""
    max_answer: Size = 1024 * 1024
    """Bytes of an answer that is shared; one that is larger goes to who asked first, and others ask for themselves."""
    max_calls: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Under way at a time that others may join."""


class Shares:
    """Reads by how they came to their answer: `leader` made a call, `follower` shared it, `alone` could not."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.reads = Counter(
            "http_client_coalesced_reads",
            "Reads of services whose identical reads share a call.",
            ["service", "role"],
            registry=telemetry.registry,
        )


class _Call:
    """One call and who waits for it, the leader first."""

    __slots__ = ("leader", "over", "task", "waiters")

    def __init__(self, leader: asyncio.Future[httpx.Response | None]) -> None:
        self.leader = leader
        self.over = False  # since the leader has no time left; others may have some
        self.waiters: dict[asyncio.Future[httpx.Response | None], None] = {leader: None}
        self.task: asyncio.Task[None] | None = None

    def answer(self, response: httpx.Response, shared: httpx.Response | None) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(response if waiter is self.leader else shared)

    def fail(self, error: Exception, *, over: bool) -> None:
        self.over = over
        for waiter in self.waiters:
            if over and waiter is not self.leader and not waiter.done():
                waiter.set_result(None)
            elif not waiter.done():
                waiter.set_exception(error)

    def cancel(self) -> None:
        for waiter in self.waiters:
            waiter.cancel()


class Coalesce(httpx.AsyncBaseTransport):
    """The call goes on for as long as anybody waits for it, and each waits no longer than its own deadline.

    Args:
        inner: what makes calls.
        settings: what is shared.
        service: for the counter.
        shares: counts.
        for_anybody: whether answers do not depend on who asks.
        arm: which deployments the request's calls go to, where there are several kinds.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        settings: CoalesceSettings,
        service: str,
        shares: Shares,
        *,
        for_anybody: bool,
        arm: Callable[[Any], object] | None = None,
    ) -> None:
        self.inner = inner
        self._arm = arm
        self._for_anybody = for_anybody
        self._max_answer, self._max_calls = settings.max_answer, settings.max_calls
        names = frozenset(name.encode() for name in settings.ignore)
        # Where the one is of no account, the other is neither: it says the same.
        self._ignored = names | {b"forwarded"} if b"x-forwarded-for" in names else names
        self._unseen = _IDS | self._ignored
        self._calls: dict[Key, _Call] = {}
        self._led, self._followed, self._alone = (
            shares.reads.labels(service, role) for role in ("leader", "follower", "alone")
        )

    def handle_async_request(self, request: httpx.Request) -> Awaitable[httpx.Response]:  # type: ignore[override]
        if request.method not in _HARMLESS:
            return self._change(request)
        if request.method not in _SHARED or request.stream is not NOTHING:
            return self.inner.handle_async_request(request)
        key = self._key(request)
        if (call := self._calls.get(key)) is not None:
            return self._follow(key, call, request)
        if len(self._calls) >= self._max_calls:
            self._alone.inc()
            return self.inner.handle_async_request(request)
        return self._lead(key, request)

    async def aclose(self) -> None:
        await self.inner.aclose()

    def forget(self) -> None:
        """Something has changed: nobody joins a call that began before."""
        self._calls.clear()

    def _key(self, request: httpx.Request) -> Key:
        said, unseen = request.extensions, self._unseen
        headers = [header for header in request.headers.raw if header[0].lower() not in unseen]
        origin = said["origin"]
        caller = None if self._for_anybody else origin.caller
        return (caller, self._arm and self._arm(origin), request.method, said["target"], *headers)

    async def _change(self, request: httpx.Request) -> httpx.Response:
        """What may change something: whoever reads after it must not be given what was read before it."""
        try:
            return await self.inner.handle_async_request(request)
        finally:
            self.forget()

    # Who asks.

    async def _lead(self, key: Key, request: httpx.Request) -> httpx.Response:
        self._led.inc()
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        call = self._calls[key] = _Call(waiter)
        call.task = loop.create_task(self._make(key, call, request))
        try:
            response: httpx.Response = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                await waiter.result().aclose()  # it came in the same moment
            raise
        finally:
            self._leave(key, call, waiter)
            del call, waiter  # an error's traceback leads back to here
        return response

    async def _follow(self, key: Key, call: _Call, request: httpx.Request) -> httpx.Response:
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        call.waiters[waiter] = None
        alarm = loop.call_at(
            min(request.extensions["deadline"] - _RESERVE, loop.time() + _LONGEST), _end, waiter, request
        )
        try:
            shared: httpx.Response | None = await waiter
            over = call.over
        finally:
            alarm.cancel()
            self._leave(key, call, waiter)
            del call, waiter
        if over:
            return await self.handle_async_request(request)
        if shared is None:
            self._alone.inc()
            return await self.inner.handle_async_request(request)
        self._followed.inc()
        if seen := request.extensions.get("call"):
            seen.joined = True
        return _copy(shared, request)

    def _leave(self, key: Key, call: _Call, waiter: asyncio.Future[Any]) -> None:
        call.waiters.pop(waiter, None)
        if waiter.done() and not waiter.cancelled():
            waiter.exception()  # who was cancelled in the same moment does not ask for it
        if not call.waiters and call.task is not None:
            self._forget(key, call)
            call.task.cancel()

    def _forget(self, key: Key, call: _Call) -> None:
        if self._calls.get(key) is call:
            del self._calls[key]

    # The call.

    async def _make(self, key: Key, call: _Call, request: httpx.Request) -> None:
        try:
            response = await self.inner.handle_async_request(request)
            shared = await self._shared(key, call, request, response)
        except asyncio.CancelledError:
            call.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - it is everybody's who waits
            self._forget(key, call)
            call.fail(error, over=_is_over(request, error))
        else:
            self._forget(key, call)
            if call.leader.done():
                await response.aclose()
            call.answer(response, shared)
        finally:
            call.task = None
            del call

    async def _shared(
        self, key: Key, call: _Call, request: httpx.Request, response: httpx.Response
    ) -> httpx.Response | None:
        """The answer with all of its body, if everybody may have it."""
        if self._is_for_one(response, key):
            return None
        content: bytes | None = getattr(response.stream, "content", None)
        if content is None and (call.waiters.keys() <= {call.leader} or not self._is_short(request, response)):
            return None
        return response if await read_up_to(response, self._max_answer) is not None else None

    def _is_short(self, request: httpx.Request, response: httpx.Response) -> bool:
        """Whether to wait for all of the body: who reads it as it comes does not want to, if it may have no end."""
        if request.extensions.get("whole"):
            return True
        length = response.headers.get("content-length", "")
        return length.isascii() and length.isdigit() and int(length) <= self._max_answer

    def _is_for_one(self, response: httpx.Response, key: Key) -> bool:
        """Whether the answer says that it is for nobody but who asked (RFC 9110 §12.5.5, RFC 9111 §5.2.2.7)."""
        headers, caller = response.headers, key[0]
        if "set-cookie" in headers:
            return True
        known = caller is not None and not caller.is_anonymous
        if not known and "private" in headers.get("cache-control", "").lower():
            return True
        vary = {name.strip().lower().encode() for name in headers.get("vary", "").split(",")}
        if b"*" in vary or not vary.isdisjoint(self._ignored):
            return True
        return b"accept-encoding" in self._ignored and "content-encoding" in headers


def _end(waiter: asyncio.Future[Any], request: httpx.Request) -> None:
    if not waiter.done():
        waiter.set_exception(failed(httpx.ReadTimeout, "its deadline has passed", request, Phase.DEADLINE))


def _is_over(request: httpx.Request, error: Exception) -> bool:
    """Whether a call failed because the request that it was made for had no time left."""
    until: float = request.extensions.get("until", inf)
    late = asyncio.get_running_loop().time() >= until - _TICK
    return isinstance(error, httpx.TimeoutException) and (late or phase_of(error) is Phase.DEADLINE)


def _copy(response: httpx.Response, request: httpx.Request) -> httpx.Response:
    content: bytes = getattr(response.stream, "content", b"")
    return httpx.Response(
        response.status_code,
        headers=Fields(response.headers.raw),
        stream=WholeBody(content),
        request=request,
        extensions=response.extensions,
    )
