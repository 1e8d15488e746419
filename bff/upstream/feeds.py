"""Streams that are followed once for all who watch the same thing and are the same to the service.

A feed begins with its first watcher and ends with its last. Whoever cannot keep up is told, and holds up nobody else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from bff.core.errors import Overloaded, ShuttingDown

if TYPE_CHECKING:
    from bff.upstream.client import Upstream

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True)
class Stream(Generic[P, T]):
    """Values of one service as they come, as `@stream` makes it."""

    service: str
    function: Callable[Concatenate[Upstream, P], AsyncIterator[T]]
    latest: bool


def stream(
    service: str, *, latest: bool = True
) -> Callable[[Callable[Concatenate[Upstream, P], AsyncIterator[T]]], Stream[P, T]]:
    """Make a stream of `service` out of an async generator, to be watched with `info.context.watch`.

        @stream("shipping")
        async def parcel(shipping: Upstream, id: str) -> AsyncIterator[Parcel]:
            async for parcel in shipping.events("/parcels/{}/events", Parcel, id):
                yield parcel

    It runs once for all who watch it with the same arguments and whom the service cannot tell apart, and ends when
    nobody watches any more. Arguments have to be hashable.

    Args:
        service: its name in the configuration.
        latest: whether whoever comes later begins with the newest value: true for states, false for news.
    """
    return lambda function: Stream(service, function, latest)


class Watcher(AsyncIterator[T]):
    """The values for one who watches. `aclose` ends it, and so does the end of the request that it belongs to."""

    def __init__(self, feed: Feed[T], max_pending: int) -> None:
        self._feed = feed
        self._max_pending = max_pending
        self._pending: deque[T] = deque()
        self._end: BaseException | None = None
        self._bell: asyncio.Future[None] | None = None

    def __aiter__(self) -> Watcher[T]:
        return self

    async def __anext__(self) -> T:
        while not self._pending:
            if self._end is not None:
                # One error for all who watch: without this it would hold on to the frames of every one of them.
                raise self._end.with_traceback(None)
            self._bell = asyncio.get_running_loop().create_future()
            await self._bell
        return self._pending.popleft()

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        self.end(StopAsyncIteration())
        self._feed.leave(self)

    def put(self, value: T) -> None:
        if len(self._pending) < self._max_pending:
            self._pending.append(value)
            self._ring()
        else:
            # To leave one out would be to lie: whoever watches again begins with what holds by then.
            self.end(Overloaded("Events come faster than this client takes them: subscribe again"))
            self._feed.leave(self)

    def end(self, end: BaseException) -> None:
        """After what is pending, `end` is raised."""
        if self._end is None:
            self._end = end
            self._ring()

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)


class Feed(Generic[T]):
    """One stream that is being followed, and who watches it."""

    def __init__(self, values: AsyncIterator[T], *, latest: bool, max_pending: int, ended: Callable[[], None]) -> None:
        self._values = values
        self._replays = latest
        self._max_pending = max_pending
        self._latest: list[T] = []
        self._watchers: set[Watcher[T]] = set()
        self._ended = ended
        # Of a context of its own: it outlives the request whose span and task it would belong to.
        self.task = Context().run(asyncio.get_running_loop().create_task, self._follow())

    def join(self) -> Watcher[T]:
        watcher = Watcher(self, self._max_pending)
        self._watchers.add(watcher)
        for value in self._latest:
            watcher.put(value)
        return watcher

    def leave(self, watcher: Watcher[T]) -> None:
        self._watchers.discard(watcher)
        if not self._watchers:
            self._ended()
            self.task.cancel()

    def close(self, why: BaseException) -> None:
        self._ended()
        self.task.cancel()
        for watcher in list(self._watchers):
            watcher.end(why)

    async def _follow(self) -> None:
        end: BaseException = StopAsyncIteration()
        try:
            async for value in self._values:
                if self._replays:
                    self._latest = [value]
                for watcher in list(self._watchers):
                    watcher.put(value)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what everybody who watches gets
            end = error
        finally:
            self._ended()
            for watcher in self._watchers:
                watcher.end(end)
            aclose = getattr(self._values, "aclose", None)
            if aclose is not None:
                await aclose()


class Feeds:
    """The feeds of one service, by what is watched and as whom."""

    def __init__(self, max_pending: int = 64) -> None:
        self._max_pending = max_pending
        self._feeds: dict[Hashable, Feed[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._feeds)

    def watch(self, stream: Stream[P, T], upstream: Upstream, *args: P.args, **kwargs: P.kwargs) -> Watcher[T]:
        """Join the feed, or begin it."""
        if self._closed:
            raise ShuttingDown
        identity = upstream.service.told(upstream.origin)
        key = (stream, args, tuple(sorted(kwargs.items())), identity)
        feed: Feed[T] | None = self._feeds.get(key)
        if feed is None:
            feed = self._begin(key, stream, stream.function(upstream.lasting(), *args, **kwargs))
        return feed.join()

    def _begin(self, key: Hashable, stream: Stream[P, T], values: AsyncIterator[T]) -> Feed[T]:
        feed: Feed[T]

        def ended() -> None:
            if self._feeds.get(key) is feed:
                del self._feeds[key]

        feed = self._feeds[key] = Feed(values, latest=stream.latest, max_pending=self._max_pending, ended=ended)
        self._tasks.add(feed.task)
        feed.task.add_done_callback(self._tasks.discard)
        return feed

    async def close(self) -> None:
        """End all feeds, and wait until they have."""
        self._closed = True
        for feed in list(self._feeds.values()):
            feed.close(ShuttingDown())
        if self._tasks:
            await asyncio.wait(self._tasks)
