"""One absolute deadline a request: each attempt gets what its service allows, and never more than is left."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from bff.core.errors import DeadlineExceeded


class Deadline(httpx.AsyncBaseTransport):
    """Reads the request's own deadline from `extensions["deadline"]` and puts the attempt's in its place.

    Args:
        timeout: seconds for one attempt, first byte to last.
    """

    def __init__(
        self, inner: httpx.AsyncBaseTransport, timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.inner = inner
        self.timeout = timeout
        self.clock = clock

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        now = self.clock()
        whole = request.extensions["deadline"]
        if whole <= now:
            raise DeadlineExceeded
        request.extensions = {**request.extensions, "deadline": min(whole, now + self.timeout)}
        try:
            return await self.inner.handle_async_request(request)
        except httpx.TimeoutException as error:
            if self.clock() >= whole:
                raise DeadlineExceeded from error
            raise

    async def aclose(self) -> None:
        await self.inner.aclose()
