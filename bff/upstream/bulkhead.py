"""So many calls of one service at a time: one that hangs fills its own hold, and no other's."""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf

import httpx
from prometheus_client import Gauge

from bff.core.telemetry import Telemetry
from bff.upstream.bodies import on_end
from bff.upstream.phases import Phase, RefusedError, failed


class Holds:
    """By which calls under way and in line are counted, of all services."""

    def __init__(self, telemetry: Telemetry) -> None:
        registry = telemetry.registry
        self.active = Gauge("http_client_active_requests", "Calls under way.", ["service"], registry=registry)
        self.waiting = Gauge(
            "http_client_waiting_requests", "Calls that wait for others to end.", ["service"], registry=registry
        )


class Bulkhead(httpx.AsyncBaseTransport):
    """Lets calls past the limit wait their turn, no longer than `extensions["until"]`.

    Args:
        inner: what makes a call.
        service: its name.
        limit: calls at a time, attempts and waits between them included; None: they are only counted.
        max_waiting: calls in line; one more is refused at once.
        holds: where they are counted.
    """

    def __init__(
        self, inner: httpx.AsyncBaseTransport, service: str, limit: int | None, max_waiting: int, holds: Holds
    ) -> None:
        self.inner = inner
        self.in_flight = 0
        self._limit: float = inf if limit is None else limit
        self._max_waiting = max_waiting
        self._line: deque[asyncio.Future[None]] = deque()
        holds.active.labels(service).set_function(lambda: self.in_flight)
        holds.waiting.labels(service).set_function(lambda: self.waiting)

    @property
    def waiting(self) -> int:
        return len(self._line)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.in_flight >= self._limit:
            await self._turn(request)
        else:
            self.in_flight += 1
        try:
            response = await self.inner.handle_async_request(request)
        except BaseException:
            self._leave(None)
            raise
        if not on_end(response, self._leave):
            self._leave(None)
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def _turn(self, request: httpx.Request) -> None:
        """Wait for the place of a call that ends: it is handed on, and never free in between."""
        if len(self._line) >= self._max_waiting:
            raise RefusedError("too many calls wait already", request, Phase.BULKHEAD, retry_after=1.0)
        until = request.extensions["until"]
        place = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            async with asyncio.timeout_at(until if until < inf else None):
                await place
        except BaseException as error:
            if place in self._line:
                self._line.remove(place)
            elif not place.cancelled():
                self._leave(None)  # it came in the same moment as the end of the wait
            if isinstance(error, TimeoutError):
                raise failed(httpx.PoolTimeout, "no call ended in time", request, Phase.BULKHEAD) from None
            raise

    def _leave(self, _: BaseException | None) -> None:
        while self._line:
            place = self._line.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.in_flight -= 1
