"""`/-/live`: what the console shows, once a second, for as long as somebody looks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import chain, islice, zip_longest
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from bff.console.purges import kept_by_all
from bff.console.readiness import Readiness
from bff.console.requests import requests_of_all
from bff.console.upstreams import upstreams_of_all
from bff.core.requests import Requests
from bff.core.shelf import Kept
from bff.core.traffic import Traffic, figures
from bff.edge.limits import Accounts
from bff.upstream import Service

SNAPSHOT = "/-/snapshot"
_PERIOD = 1.0
_SHOWN = 50
_ALIVE = b":\n\n"

Snapshots = Annotated[int | None, Query(ge=1, le=100_000)]
"""So many, or for as long as they are taken."""


class Live:
    """Makes one snapshot a period, however many look, and none while nobody does.

    Args:
        make: one; None where there is none to be had at present.
        most: viewers at a time.
        clock: the loop's.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[Mapping[str, Any] | None]],
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.viewers = 0
        self._make, self._most, self._clock = make, most, clock
        self._one_at_a_time = asyncio.Lock()
        self._made_at = float("-inf")
        self._made = _ALIVE

    async def snapshot(self) -> bytes:
        """As an event."""
        async with self._one_at_a_time:
            if self._clock() - self._made_at >= _PERIOD * 0.9:
                self._made_at = self._clock()
                made = await self._make()
                self._made = b"data: " + orjson.dumps(made, default=str) + b"\n\n" if made else _ALIVE
        return self._made

    def answer(self, snapshots: int | None) -> Response:
        """The stream for one viewer; 503 where there are too many."""
        return _Watched(self, snapshots)

    def full(self) -> Response | None:
        if self.viewers < self._most:
            return None
        why = f"{self._most} look already, which is admin.max_viewers"
        return JSONResponse({"detail": why}, 503, {"Retry-After": "10"})

    async def events(self, snapshots: int | None) -> AsyncIterator[bytes]:
        yield await self.snapshot()
        while snapshots is None or (snapshots := snapshots - 1) > 0:
            await asyncio.sleep(_PERIOD)
            yield await self.snapshot()


class _Watched(StreamingResponse):
    """Counts its viewer from before the first byte until after the last one, however it ends."""

    def __init__(self, live: Live, snapshots: int | None) -> None:
        super().__init__(live.events(snapshots), media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if refusal := self._live.full():
            await refusal(scope, receive, send)
            return
        self._live.viewers += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._live.viewers -= 1


def live(
    traffic: Traffic,
    services: Mapping[str, Service],
    accounts: Accounts,
    requests: Requests,
    readiness: Readiness,
    kept: Callable[[], Kept | None],
    *,
    most: int,
) -> APIRouter:
    """Of this process, for at most so many viewers at a time; and a snapshot by itself, of which several add up."""
    pages = APIRouter()

    @pages.get(SNAPSHOT)
    async def snapshot() -> dict[str, Any]:
        return {
            "at": time.time(),
            "traffic": traffic.state(),
            "services": {name: each.shown() for name, each in services.items()},
            "callers": await accounts.latest(),
            "requests": [each.summary() for each in islice(requests.all(), _SHOWN)],
            "draining": readiness.draining or readiness.told_to_drain,
            "cache": kept(),
        }

    async def shown() -> dict[str, Any]:
        return snapshot_of_all([await snapshot()])

    seen = Live(shown, most)

    @pages.get("/-/live")
    async def events(snapshots: Snapshots = None) -> Response:
        return seen.answer(snapshots)

    return pages


def snapshot_of_all(said: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the console shows of one process, or of several together."""
    # Those that asked last of each process come first; an account that several share is said alike by all of them.
    ranked = chain.from_iterable(zip_longest(*(each["callers"] for each in said)))
    callers: dict[str, Any] = {}
    for caller in filter(None, ranked):
        callers.setdefault(caller["id"], caller)
    return {
        "at": said[0]["at"],
        "traffic": figures([each["traffic"] for each in said]),
        "services": upstreams_of_all([each["services"] for each in said]),
        "callers": list(callers.values())[:_SHOWN],
        **requests_of_all(said, most=_SHOWN),
        "draining": any(each["draining"] for each in said),
        "cache": kept_by_all([each["cache"] for each in said]),
    }
