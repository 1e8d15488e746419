"""Copies of reads for another arm, whose answers nobody gets: they are only compared, so that it is seen at work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from random import Random
from typing import Annotated, Any, Final

import httpx
from prometheus_client import Counter
from pydantic import Field

from bff.core.settings import Duration, Settings
from bff.core.telemetry import Telemetry
from bff.upstream.target import Target
from bff.upstream.wire import NOTHING, request_of

_READS: Final = frozenset({"GET", "HEAD"})


class MirrorSettings(Settings):
    """Copies of reads to another arm."""

    to: str
    """Which arm gets them: one of `targets`. A call that goes there by itself is not copied."""
    percent: Annotated[float, Field(gt=0, le=100)]
    """Of all GET and HEAD calls that were answered: `1`."""
    timeout: Annotated[Duration, Field(ge=0.01)] = 1.0
    """Of one copy, first byte to last."""
    max_in_flight: Annotated[int, Field(ge=1, le=1000)] = 10
    """Copies under way; one more is not made, and counted."""


class Mirrored:
    """By which copies are counted, of all services."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.counter = Counter(
            "http_client_mirrored",
            "Copies of calls to another arm, by what came of them beside the call's own answer.",
            ["service", "outcome"],
            registry=telemetry.registry,
        )


class Mirror(httpx.AsyncBaseTransport):
    """Copies a share of the reads, once they are answered; nothing of it is noticed by who called.

    Args:
        inner: what the calls themselves cross.
        service: its name.
        settings: where copies go, and how many.
        ways: what takes a copy to each target of the arm.
        mirrored: where they are counted: `same` and `different` by status, `failed`, `dropped`.
        random: for the choice of calls.
        clock: the loop's.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        service: str,
        settings: MirrorSettings,
        ways: Mapping[Target, httpx.AsyncBaseTransport],
        mirrored: Mirrored,
        random: Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inner = inner
        self._service, self._settings, self._ways = service, settings, ways
        self._share = settings.percent / 100
        self._random, self._clock = random, clock
        self._turn = 0
        self._copies: set[asyncio.Task[None]] = set()
        outcomes = ("same", "different", "failed", "dropped")
        self._counted = {each: mirrored.counter.labels(service, each) for each in outcomes}

    def handle_async_request(self, request: httpx.Request) -> Coroutine[Any, Any, httpx.Response]:
        meant = request.method in _READS and request.stream is NOTHING and self._random.random() < self._share
        return self._mirrored(request) if meant else self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        for copy in self._copies:
            copy.cancel()
        if self._copies:
            await asyncio.wait(self._copies)
        for way in self._ways.values():
            await way.aclose()
        await self.inner.aclose()

    async def _mirrored(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        asked = request.extensions["origin"].asked
        if asked is None or asked.arms.get(self._service) != self._settings.to:
            self._begin(request, response.status_code)
        return response

    def _begin(self, request: httpx.Request, status: int) -> None:
        if len(self._copies) >= self._settings.max_in_flight:
            self._counted["dropped"].inc()
            return
        extensions = {**request.extensions, "recorded": False, "whole": True}
        extensions["beside"] = None  # it has one client, and that has its own call
        extensions["deadline"] = self._clock() + self._settings.timeout
        copy = request_of(request.method, request.url, request.headers, extensions, NOTHING)
        # Of a context of its own: it outlives the request whose span it would belong to.
        task = Context().run(asyncio.get_running_loop().create_task, self._compare(copy, status))
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)

    async def _compare(self, copy: httpx.Request, status: int) -> None:
        outcome = "failed"
        try:
            async with asyncio.timeout(self._settings.timeout):
                response = await self._way().handle_async_request(copy)
                try:
                    async for _ in response.aiter_raw():
                        pass  # so that the connection can be used again
                finally:
                    await response.aclose()
            outcome = "same" if response.status_code == status else "different"
        except (TimeoutError, httpx.TransportError):
            pass
        self._counted[outcome].inc()

    def _way(self) -> httpx.AsyncBaseTransport:
        now = self._clock()
        targets = [target for target in self._ways if target.is_up(now)] or list(self._ways)
        self._turn += 1
        return self._ways[targets[self._turn % len(targets)]]
