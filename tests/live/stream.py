"""The Order service's event streams in memory: events on demand, and streams that end or break on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson

from tests.shop import Call, FakeService, answer

STATUSES = ("pending", "paid", "shipped", "delivered")


class Streamed(httpx.AsyncByteStream):
    """One connection."""

    def __init__(self, of: OrderEvents, path: str, call: Call) -> None:
        self.of, self.path, self.call = of, path, call
        self.chunks: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self.chunks.get()) is not None:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    async def aclose(self) -> None:
        self.closed = True
        self.of.open.discard(self)


class OrderEvents:
    """How the fake Order service answers `/orders/{id}/events`, as its contract has it.

    Attributes:
        open: the streams that are open.
        opened: all that were ever.
        refuse: answers the next openings with these statuses instead.
    """

    def __init__(self, service: FakeService) -> None:
        self.open: set[Streamed] = set()
        self.opened: list[Streamed] = []
        self.refuse: list[int] = []
        self.news: dict[str, int] = {}
        service.behaviour = self.behave

    async def behave(self, request: httpx.Request, call: Call) -> httpx.Response | None:
        if not call.path.endswith("/events"):
            return None
        if self.refuse:
            return answer(self.refuse.pop(0), {"title": "Refused", "detail": "not now"}, "application/problem+json")
        id = call.path.split("/")[2]
        stream = Streamed(self, id, call)
        self.open.add(stream)
        self.opened.append(stream)
        seen = int(call.header("last-event-id") or 0)
        now = self.news.setdefault(id, 1)
        for number in range(seen + 1 if seen else now, now + 1):
            stream.chunks.put_nowait(event(id, number))
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)

    def advance(self, id: str) -> None:
        """The order's status changes."""
        self.news[id] = self.news.get(id, 1) + 1
        for stream in self.open:
            if stream.path == id:
                stream.chunks.put_nowait(event(id, self.news[id]))

    def end(self, how: Exception | None = None) -> None:
        """All streams end, or break."""
        for stream in list(self.open):
            stream.chunks.put_nowait(how)


def event(id: str, number: int) -> bytes:
    data: dict[str, Any] = {"id": id, "status": STATUSES[(number - 1) % 4], "at": "2026-01-01T00:00:00Z"}
    return b"id: %d\nevent: status\ndata: %b\n\n" % (number, orjson.dumps(data))
