"""One absolute deadline a request, and what of it each attempt gets: first byte to last, and never more."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

import httpx

from bff.core.deadline import REQUEST_TIMEOUT
from bff.upstream.phases import Phase, failed
from bff.upstream.wire import Fields, request_of

# Kept back, so that an answer can be made of whatever came: a tenth of what is left, and never more than this.
_RESERVE: Final = 0.02
_SHARE: Final = 0.1
# Seconds, with less of which nothing is worth beginning.
_LEAST: Final = 0.001


class Deadline(httpx.AsyncBaseTransport):
    """Reads the request's own deadline from `extensions["deadline"]`; calls have to end by `extensions["until"]`."""

    def __init__(self, inner: httpx.AsyncBaseTransport, clock: Callable[[], float] = time.monotonic) -> None:
        self.inner = inner
        self.clock = clock

    def handle_async_request(self, request: httpx.Request) -> Awaitable[httpx.Response]:  # type: ignore[override]
        deadline = request.extensions["deadline"]
        left = deadline - self.clock()
        if left <= 0:
            raise failed(httpx.ReadTimeout, "the request's deadline has passed", request, Phase.DEADLINE)
        request.extensions["until"] = deadline - min(_RESERVE, left * _SHARE)
        return self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


class Attempt(httpx.AsyncBaseTransport):
    """Gives an attempt what its service allows, or what is left until calls have to end, and says so to the service.

    Each attempt is a request of its own, whatever becomes of it below.

    The header is the one in which clients say it to us, in seconds: `request-timeout: 1.98`.

    Args:
        inner: what makes the attempt.
        timeout: seconds for one attempt, first byte to last.
        clock: the loop's.
    """

    def __init__(
        self, inner: httpx.AsyncBaseTransport, timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.inner = inner
        self.timeout = timeout
        self.clock = clock

    def handle_async_request(self, request: httpx.Request) -> Awaitable[httpx.Response]:  # type: ignore[override]
        until, now = request.extensions["until"], self.clock()
        seconds = min(self.timeout, until - now)
        if seconds < _LEAST:
            raise failed(httpx.ReadTimeout, "the request's deadline has passed", request, Phase.DEADLINE)
        return self.inner.handle_async_request(
            request_of(
                request.method,
                request.url,
                Fields([*request.headers.raw, (REQUEST_TIMEOUT, b"%.3f" % seconds)]),
                {**request.extensions, "deadline": now + seconds},
                request.stream,
            )
        )

    async def aclose(self) -> None:
        await self.inner.aclose()
