"""Who waits for news of which order: the wake-ups behind an event stream (server-sent events)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec

from demo.problems import Problem

MAX_STREAMS = 1000


class Watchers:
    def __init__(self, heartbeat: float, longest: float) -> None:
        """heartbeat: seconds between signs of life; longest: seconds after which a client has to come again."""
        self.heartbeat, self.longest = heartbeat, longest
        self.waiting: dict[str, set[asyncio.Event]] = {}
        self.streams, self.closing = 0, False

    def make_room(self) -> None:
        if self.streams >= MAX_STREAMS:
            raise Problem(503, "too many event streams are open", {"retry-after": "5"})

    def wake(self, topic: str) -> None:
        for bell in self.waiting.get(topic, ()):
            bell.set()

    def close(self) -> None:
        """End every stream: their readers come again when the service is back, and say what they saw last."""
        self.closing = True
        for topic in self.waiting:
            self.wake(topic)

    async def watch(self, topic: str) -> AsyncIterator[None]:
        """At once, then after each `wake` and at each heartbeat, until the stream is as old as a stream may get."""
        bell, ends = asyncio.Event(), asyncio.get_running_loop().time() + self.longest
        self.waiting.setdefault(topic, set()).add(bell)
        self.streams += 1
        try:
            while not self.closing and (left := ends - asyncio.get_running_loop().time()) > 0:
                bell.clear()
                yield
                with suppress(TimeoutError):
                    await asyncio.wait_for(bell.wait(), min(self.heartbeat, left))
        finally:
            self.streams -= 1
            self.waiting[topic].discard(bell)
            if not self.waiting[topic]:
                del self.waiting[topic]


def event(number: int, data: dict[str, str]) -> bytes:
    return b"id: %d\nevent: status\ndata: %s\n\n" % (number, msgspec.json.encode(data))
