"""Batched reads: a function from keys to a mapping; order, misses, duplicates, batching and caching are done here.

A level of a query loads its keys as one column. aiodataloader gathers the columns that are asked for in the same tick,
so that fields side by side share a call; what one request has read already is not read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from time import perf_counter
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import aiodataloader
import msgspec
from aiodataloader import DataLoader
from opentelemetry.trace import SpanContext, get_current_span

from bff.core.waterfall import Read
from bff.upstream.client import Upstream
from bff.upstream.feeds import Stream, Watcher

K = TypeVar("K", bound=str)
V_co = TypeVar("V_co", covariant=True)
T = TypeVar("T")
P = ParamSpec("P")

Column = list[V_co | BaseException | None]
"""One value for each key or parent, in their order: None where there is none, an error where the read failed."""


class Batch(msgspec.Struct, Generic[K, V_co], frozen=True, cache_hash=True):
    """A batched read of one service, as `@batch` makes it. `name` is what logs and explanations call it."""

    service: str
    fetch: Callable[..., Awaitable[Mapping[K, V_co]]]
    name: str
    arguments: tuple[tuple[str, Any], ...] = ()

    def where(self, **arguments: Any) -> Batch[K, V_co]:
        """The same read with arguments that hold for all of its keys; None means not given.

        await info.context.load_many(orders_by_user.where(limit=10), user_ids)
        """
        given = sorted([(name, value) for name, value in arguments.items() if value is not None])
        return Batch(self.service, self.fetch, self.name, tuple(given))


def batch(
    service: str,
) -> Callable[[Callable[Concatenate[Upstream, list[K], ...], Awaitable[Mapping[K, V_co]]]], Batch[K, V_co]]:
    """Make a batched read of `service` out of a function from keys to a mapping; a key without a record is left out.

        @batch("inventory")
        async def availability_by_product(inventory: Upstream, ids: list[str]) -> dict[str, Availability]:
            return {a.product_id: a for a in await inventory.get("/availability", list[Availability], ids=ids)}

    It is given distinct keys, at most the service's `max_batch` at a time.
    """
    return lambda fetch: Batch(service, fetch, f"{service}.{fetch.__name__}")


@dataclass(frozen=True)
class Call(Generic[P, T]):
    """Any other call of one service, as `@call` makes it."""

    service: str
    function: Callable[Concatenate[Upstream, P], Awaitable[T]]

    @cached_property
    def name(self) -> str:
        """What logs and explanations call it."""
        return f"{self.service}.{getattr(self.function, '__name__', 'call')}"


def call(service: str) -> Callable[[Callable[Concatenate[Upstream, P], Awaitable[T]]], Call[P, T]]:
    """Make a call of `service`, such as a page or a write, out of a function.

    @call("orders")
    async def cancel_order(orders: Upstream, id: str) -> Order:
        return await orders.post("/orders/{}/cancel", Order, id)
    """
    return lambda function: Call(service, function)


class _Asked(msgspec.Struct, eq=False):
    """What aiodataloader's `Loader` is, which is a named tuple and takes three times as long to make."""

    key: tuple[Any, ...]
    future: asyncio.Future[Any]


class Columns(DataLoader[tuple[K, ...], Column[V_co]]):
    """The loader of one batched read in one request; its keys are columns, so that a level costs one future."""

    cache = False  # columns hardly ever come twice; their records are remembered one by one
    get_cache_key = staticmethod(tuple)  # which a column is already

    def __init__(self, batch: Batch[K, V_co], upstream: Upstream, made: dict[str, int]) -> None:
        # Aiodataloader's own looks at `batch_load_fn` again for each instance, and that for longer than a read takes.
        self.loop = asyncio.get_running_loop()
        self._queue: list[Any] = []  # of `_Asked`
        self._cache: dict[Any, Any] = {}
        self._batch = batch
        self._upstream = upstream
        self._arguments = dict(batch.arguments)
        self._made = made
        self._reads: dict[K, asyncio.Future[Mapping[K, V_co] | BaseException]] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._since = 0.0
        self._recorded = upstream.service.batches is not None and upstream.origin.trace.sampled
        self._asking: list[SpanContext] = []  # the spans of who asks; only where the trace is recorded

    def do_resolve_reject(self, key: tuple[K, ...], future: asyncio.Future[Column[V_co]]) -> None:
        # As aiodataloader does it, and as late, less the task that it makes only to call `dispatch_queue` two ticks on.
        self._queue.append(_Asked(key, future))
        if self._recorded:
            self._asking.append(get_current_span().get_span_context())
        if len(self._queue) == 1:
            self._since = perf_counter()
            self.loop.call_soon(self.loop.call_soon, aiodataloader.dispatch_queue, self)

    async def batch_load_fn(self, columns: list[tuple[K, ...]]) -> list[Column[V_co]]:
        task = asyncio.current_task(self.loop)
        assert task is not None  # noqa: S101 - aiodataloader makes one for each batch
        self._running.add(task)
        try:
            asked = sum(map(len, columns))
            asking, self._asking = self._asking, []
            read = self.loop.create_future()
            keys = columns[0] if len(columns) == 1 else chain.from_iterable(columns)
            reads: dict[K, asyncio.Future[Mapping[K, V_co] | BaseException]] = dict.fromkeys(keys, read)
            if self._reads or not 0 < len(reads) <= self._upstream.service.max_batch:
                return await self._in_parts(columns, list(reads), asked, asking)
            self._reads = reads
            found = await self._fetched(list(reads), read, asked, 0, asking)
            return [_values(found, column) for column in columns]
        except asyncio.CancelledError as cancelled:
            # It becomes a value: raised from a batch, it would leave the loader's waiters waiting for ever.
            return [[cancelled] * len(column) for column in columns]
        finally:
            self._running.discard(task)

    async def _in_parts(
        self, columns: list[tuple[K, ...]], keys: list[K], asked: int, asking: list[SpanContext]
    ) -> list[Column[V_co]]:
        """What one call does not come to: some keys are read already, or there are more than a call takes."""
        service = self._upstream.service
        new = [key for key in keys if key not in self._reads]
        hits = len(keys) - len(new)
        if hits and service.batches is not None:
            service.batches.known.labels(self._batch.name).inc(hits)
        fetches = []
        for start in range(0, len(new), service.max_batch):
            part, read = new[start : start + service.max_batch], self.loop.create_future()
            # Whoever asks for these keys from now on waits for the call, even before it is made.
            self._reads.update(dict.fromkeys(part, read))
            fetches.append(self._fetched(part, read, asked, hits, asking))
        # As they are now: what is read may be forgotten while others are waited for.
        reads = {key: self._reads[key] for key in keys}
        await self._side_by_side(fetches)
        if under_way := {read for read in reads.values() if not read.done()}:
            await asyncio.wait(under_way)
        return [_answer(reads, column) for column in columns]

    async def _side_by_side(self, fetches: list[Coroutine[Any, Any, Any]]) -> None:
        if len(fetches) < 2:  # a task costs more than awaiting it here
            for each in fetches:
                await each
            return
        tasks = [self.loop.create_task(each) for each in fetches]
        self._running.update(tasks)
        await asyncio.wait(tasks)
        self._running.difference_update(tasks)

    async def _fetched(
        self,
        keys: list[K],
        read: asyncio.Future[Mapping[K, V_co] | BaseException],
        asked: int,
        hits: int,
        asking: list[SpanContext],
    ) -> Mapping[K, V_co] | BaseException:
        """What one call for these keys comes to, which is what `read` comes to as well."""
        found: Mapping[K, V_co] | BaseException
        name = self._batch.name
        self._made[name] = self._made.get(name, 0) + 1
        told = Read(name, len(keys), asked, hits, self._since)
        upstream = self._upstream.reading(told)
        batches = upstream.service.batches
        if batches is not None:
            batches.record(name, told.keys)
        try:
            if self._recorded and batches is not None:
                with batches.span(told, asking):
                    found = await self._found(upstream, keys)
            else:
                found = await self._found(upstream, keys)
        except asyncio.CancelledError as cancelled:
            read.set_result(cancelled)
            raise
        except Exception as error:  # noqa: BLE001 - errors are values here: each key's
            found = error
        read.set_result(found)
        return found

    def _found(self, upstream: Upstream, keys: list[K]) -> Awaitable[Mapping[K, V_co]]:
        gathering = upstream.service.gathering
        if gathering is None:
            return self._batch.fetch(upstream, keys, **self._arguments)
        return gathering.read(self._batch, upstream, keys)

    def forget(self) -> None:
        """Let the next load read anew."""
        self._reads = {key: read for key, read in self._reads.items() if not read.done()}

    def cancel(self) -> None:
        """Nobody waits any more: end the calls under way."""
        for task in self._running:
            task.cancel()
        self._queue = []
        self._reads = {}  # a read that failed leads back here by its traceback


def _answer(reads: Mapping[K, asyncio.Future[Mapping[K, V_co] | BaseException]], column: tuple[K, ...]) -> Column[V_co]:
    return [value for key in column for value in _values(reads[key].result(), (key,))]


def _values(found: Mapping[K, V_co] | BaseException, column: tuple[K, ...]) -> Column[V_co]:
    return [found] * len(column) if isinstance(found, BaseException) else list(map(found.get, column))


class Loads:
    """All that one request reads and calls.

    Attributes:
        made: how many calls, by the names of the reads and calls.
    """

    def __init__(self, upstream: Callable[[str], Upstream]) -> None:
        self._upstream = upstream
        self._columns: dict[Batch[Any, Any], Columns[Any, Any]] = {}
        self.made: dict[str, int] = {}
        self._watchers: list[Watcher[Any]] = []

    async def load(self, batch: Batch[K, V_co], key: K) -> V_co | None:
        """One record, or None if there is none.

        Raises:
            GatewayError: the read failed.
        """
        (value,) = await self._loader(batch).load((key,))
        if isinstance(value, BaseException):
            raise value
        return value

    async def load_many(self, batch: Batch[K, V_co], keys: Sequence[K]) -> Column[V_co]:
        """The records of all keys."""
        return await self._loader(batch).load(tuple(keys)) if keys else []

    async def call(self, call: Call[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make the call; whatever was read before is read anew after it, since it may have changed something."""
        self.made[call.name] = self.made.get(call.name, 0) + 1
        try:
            return await call.function(self._upstream(call.service).reading(Read(call.name)), *args, **kwargs)
        finally:
            for columns in self._columns.values():
                columns.forget()

    def watch(self, stream: Stream[P, T], *args: P.args, **kwargs: P.kwargs) -> Watcher[T]:
        """The values of a stream as they come, for as long as this request lasts. For subscriptions.

            return info.context.watch(parcel, id)

        Iterating it raises:
            GatewayError: the stream failed, or its values come faster than they are taken.
        """
        upstream = self._upstream(stream.service)
        watcher = upstream.service.feeds.watch(stream, upstream, *args, **kwargs)
        self._watchers.append(watcher)
        return watcher

    def cancel(self) -> None:
        for columns in self._columns.values():
            columns.cancel()
        for watcher in self._watchers:
            watcher.close()

    def _loader(self, batch: Batch[K, V_co]) -> Columns[K, V_co]:
        columns = self._columns.get(batch)
        if columns is None:
            columns = self._columns[batch] = Columns(batch, self._upstream(batch.service), self.made)
        return columns
