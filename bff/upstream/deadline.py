"""One absolute deadline a request, and what of it each attempt gets: first byte to last, and never more."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

import httpx

from bff.core.deadline import REQUEST_TIMEOUT
from bff.core.head import lines
from bff.upstream.phases import Phase, failed
from bff.upstream.target import Addressed
from bff.upstream.wire import Fields, parts_of, request_of

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
        request.extensions["until"] = deadline - (_RESERVE if left > _RESERVE / _SHARE else left * _SHARE)
        return self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


class Attempt(Addressed):
    """One attempt at one deployment: a request of its own, addressed there, with the time that it has.

    That is what its service allows, or what is left until calls have to end; and the service is told of it, by the
    header in which clients say it to us, in seconds: `request-timeout: 1.98`.

    Args:
        inner: what makes the attempt.
        url: where to.
        timeout: seconds for one attempt, first byte to last.
        clock: the loop's.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        url: httpx.URL,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner, url)
        self.timeout = timeout
        self.clock = clock
        self._all_of_it = _told(timeout)

    def handle_async_request(self, request: httpx.Request) -> Awaitable[httpx.Response]:  # type: ignore[override]
        said, now = request.extensions, self.clock()
        left = said["until"] - now
        if left < _LEAST:
            raise failed(httpx.ReadTimeout, "the request's deadline has passed", request, Phase.DEADLINE)
        given, own = parts_of(request.headers)
        seconds, told = (left, _told(left)) if left < self.timeout else (self.timeout, self._all_of_it)
        return self.inner.handle_async_request(
            request_of(
                request.method,
                self.url,
                Fields(given, self.host + told + own),
                {**said, "deadline": now + seconds, "target": self.path + said["target"]},
                request.stream,
            )
        )


def _told(seconds: float) -> bytes:
    return lines([(REQUEST_TIMEOUT, b"%.3f" % seconds)])
