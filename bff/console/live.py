"""`/-/live`: what the console shows, once a second, for as long as somebody looks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import islice
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import StreamingResponse

from bff.console.readiness import Readiness
from bff.core.requests import Requests
from bff.core.traffic import Traffic
from bff.edge.limits import Accounts
from bff.upstream import Service

_PERIOD = 1.0
_SHOWN = 50


class Live:
    """Makes one snapshot a period, however many look, and none while nobody does.

    Args:
        sources: what a snapshot has, by name.
        clock: the loop's.
    """

    def __init__(self, sources: Mapping[str, Callable[[], Any]], clock: Callable[[], float] = time.monotonic) -> None:
        self.viewers = 0
        self._sources = sources
        self._clock = clock
        self._made_at = float("-inf")
        self._made = b""

    def snapshot(self) -> bytes:
        """As an event."""
        if self._clock() - self._made_at >= _PERIOD * 0.9:
            self._made_at = self._clock()
            shown = {"at": time.time()} | {name: source() for name, source in self._sources.items()}
            self._made = b"data: " + orjson.dumps(shown, default=str) + b"\n\n"
        return self._made

    async def events(self, snapshots: int | None) -> AsyncIterator[bytes]:
        """So many snapshots, or for as long as they are taken."""
        self.viewers += 1
        try:
            yield self.snapshot()
            while snapshots is None or (snapshots := snapshots - 1) > 0:
                await asyncio.sleep(_PERIOD)
                yield self.snapshot()
        finally:
            self.viewers -= 1


def live(
    traffic: Traffic,
    services: Mapping[str, Service],
    accounts: Accounts,
    requests: Requests,
    readiness: Readiness,
    *,
    most: int,
) -> APIRouter:
    """For at most so many viewers at a time."""
    pages = APIRouter()
    seen = Live(
        {
            "traffic": traffic.shown,
            "services": lambda: {name: each.shown() for name, each in services.items()},
            "callers": lambda: accounts.latest(_SHOWN),
            "requests": lambda: [each.summary() for each in islice(requests.all(), _SHOWN)],
            "draining": lambda: readiness.draining or readiness.told_to_drain,
        }
    )

    @pages.get("/-/live")
    async def events(snapshots: Annotated[int | None, Query(ge=1, le=100_000)] = None) -> StreamingResponse:
        if seen.viewers >= most:
            raise HTTPException(503, f"{most} look already, which is admin.max_viewers", {"Retry-After": "10"})
        return StreamingResponse(
            seen.events(snapshots), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    return pages
