"""What all caches of a process keep answers on: values by key within a number of bytes, dropped by their tags.

Whoever drops something tells the shelf, and the shelf tells everybody whom it concerns: reads under way, whose answers
are of before, and the other gateways.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Hashable
from functools import partial
from typing import Annotated, Any, Final, NamedTuple, TypedDict

from prometheus_client import Counter, Gauge
from pydantic import Field

from bff.core.settings import Settings, Size
from bff.core.telemetry import Telemetry

Tag = tuple[str, ...]
Tags = frozenset[Tag] | None
"""What a purge is about; None: everything."""

# Python's own share of a value with its key, its headers and its place in the tables.
_OVERHEAD: Final = 1024
_EACH_TAG: Final = 128
_MAX_PURGES: Final = 1000
"""That are remembered, to be held against what is read meanwhile."""


class CacheSettings(Settings):
    max_size: Annotated[Size, Field(ge=1024)] = 64 * 1024 * 1024
    """Bytes of all that is kept; what was used longest ago goes first."""
    max_answer: Annotated[Size, Field(ge=1)] = 1024 * 1024
    """Bytes of one answer; a larger one is passed on and not kept."""
    max_refreshes: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Answers that are asked for anew at a time, while clients are given the stale one (`stale-while-revalidate`)."""


class Kept(TypedDict):
    """What is kept of answers, for operators.

    Attributes:
        answers: how many there are.
        bytes: what all of it takes.
        max_bytes: what it may take.
        requests: how often it was asked, by outcome.
    """

    answers: int
    bytes: int
    max_bytes: int
    requests: dict[str, int]


class _Item(NamedTuple):
    value: Any
    size: int
    tags: Collection[Tag]
    cache: str


class Shelf:
    """Least recently used first out, whichever cache it is of.

    Args:
        settings: its bounds; sizes are what whoever puts something there says of it.
        telemetry: what is told how full it is.
        beside: where it is, once it has begun, with those of earlier configurations that requests are ending on.
        clock: seconds since 1970, for all caches.

    Attributes:
        epoch: how often something was purged: told to `put`, it keeps out what was read before it was.
        requests: how often each cache was asked, by service and outcome.
        on_purge: who has to know, told with each purge what it is about.
        tell: how other gateways come to know, where there are some.
    """

    def __init__(
        self,
        settings: CacheSettings,
        telemetry: Telemetry,
        beside: list[Shelf],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self._beside = beside
        self.size = self.epoch = 0
        self.on_purge: list[Callable[[Tags], None]] = []
        self.tell: Callable[[Tags], None] | None = None
        self.settings, self._max_size = settings, settings.max_size
        self._items: OrderedDict[Hashable, _Item] = OrderedDict()
        self._tagged: dict[Tag, set[Hashable]] = {}
        self._books: dict[str, _Book] = {}
        self._purges: deque[tuple[int, frozenset[Tag]]] = deque()
        self._begun = 0
        """The first epoch that is remembered: what began before it is not put here."""
        self._is_trusted = True
        registry = telemetry.registry
        self.requests = Counter(
            "bff_cache_requests",
            "Reads of a cache, by what it had.",
            ["cache", "service", "outcome"],
            registry=registry,
        )
        trusted = Gauge(
            "bff_cache_trusted", "Whether what others change is heard of; while it is not, nothing is kept.",
            registry=registry,
        )  # fmt: skip
        trusted.set_function(lambda: self._is_trusted)
        self._bytes = Gauge("bff_cache_bytes", "What a cache keeps.", ["cache"], registry=registry)
        self._answers = Gauge("bff_cache_answers", "How many answers it keeps.", ["cache"], registry=registry)
        self._evicted = Counter(
            "bff_cache_evictions", "Answers that went since there was no room for them.", ["cache"], registry=registry
        )
        self._purged = Counter(
            "bff_cache_purges",
            "Answers that went since something had changed, or by an operator.",
            ["cache"],
            registry=registry,
        )

    def __len__(self) -> int:
        return len(self._items)

    def kept(self) -> Kept:
        """How full it is, and what it was good for."""
        found = dict[str, int]()
        samples = (each for metric in self.requests.collect() for each in metric.samples)
        for sample in samples:
            if sample.name.endswith("_total"):
                outcome = sample.labels["outcome"]
                found[outcome] = found.get(outcome, 0) + int(sample.value)
        return {"answers": len(self), "bytes": self.size, "max_bytes": self._max_size, "requests": found}

    async def begin(self) -> None:
        self._beside.append(self)

    async def close(self) -> None:
        self._beside.remove(self)

    def open(self, cache: str) -> None:
        """For a cache of this name."""
        book = self._books[cache] = _Book(self._evicted.labels(cache), self._purged.labels(cache))
        self._bytes.labels(cache).set_function(partial(getattr, book, "size"))
        self._answers.labels(cache).set_function(partial(getattr, book, "count"))

    def get(self, key: Hashable) -> Any:
        """None where there is nothing."""
        item = self._items.get(key)
        if item is None:
            return None
        self._items.move_to_end(key)
        return item.value

    def put(
        self,
        cache: str,
        key: Hashable,
        value: Any,
        size: int,
        tags: Collection[Tag] = (),
        *,
        since: int | None = None,
    ) -> bool:
        """Keep it, in place of what was there.

        Args:
            cache: whose it is.
            key: by which it is found, over all caches.
            value: which it is.
            size: its bytes, and those of its key.
            tags: by which it is dropped.
            since: the epoch in which its read began; by default now.

        Returns:
            Whether it is kept: not where it is larger than the whole shelf, or has changed meanwhile.
        """
        self.drop(key)
        size += _OVERHEAD + sum(_EACH_TAG + len(tag[-1]) for tag in tags)
        if size > self._max_size or not self._is_trusted or (since is not None and self.has_changed(since, tags)):
            return False
        self._items[key] = _Item(value, size, tags, cache)
        self.size += size
        self._books[cache].add(size)
        for tag in tags:
            self._tagged.setdefault(tag, set()).add(key)
        while self.size > self._max_size:
            oldest = next(iter(self._items))
            self._books[self._items[oldest].cache].evicted.inc()
            self.drop(oldest)
        return key in self._items

    def drop(self, key: Hashable) -> None:
        item = self._items.pop(key, None)
        if item is None:
            return
        self.size -= item.size
        self._books[item.cache].take(item.size)
        for tag in item.tags:
            keys = self._tagged[tag]
            keys.discard(key)
            if not keys:
                del self._tagged[tag]

    def has_changed(self, since: int, tags: Collection[Tag]) -> bool:
        """Whether something with one of these tags was purged after that epoch."""
        if since < self._begun:
            return True
        for epoch, purged in reversed(self._purges):
            if epoch <= since:
                return False
            if not purged.isdisjoint(tags):
                return True
        return False

    # What has to go.

    def purge(self, tags: Tags) -> int:
        """Drop all that has one of these tags, here and at all gateways: how many there were here."""
        count = self.heard(tags)
        for each in self._beside:
            if each is not self:
                each.heard(tags)
        if self.tell is not None:
            self.tell(tags)
        return count

    def heard(self, tags: Tags) -> int:
        """The same here alone, where another gateway says so."""
        self.epoch += 1
        if tags is None:
            count = self._clear()
        else:
            if len(self._purges) == _MAX_PURGES:
                self._begun = self._purges.popleft()[0]
            self._purges.append((self.epoch, tags))
            keys = set[Hashable]().union(*(self._tagged.get(tag, ()) for tag in tags))
            for key in keys:
                self._books[self._items[key].cache].purged.inc()
                self.drop(key)
            count = len(keys)
        for told in tuple(self.on_purge):  # a reload takes some away
            told(tags)
        return count

    def distrust(self) -> None:
        """Nobody says any more what others change: keep nothing."""
        self._is_trusted = False
        self.heard(None)

    def trust(self) -> None:
        """Whatever changes from now on is heard of; what was read before may have changed."""
        self.heard(None)
        self._is_trusted = True

    def _clear(self) -> int:
        count = len(self._items)
        self._items.clear()
        self._tagged.clear()
        self._purges.clear()
        self._begun = self.epoch
        self.size = 0
        for book in self._books.values():
            book.clear()
        return count


class _Book:
    """How much a cache has on the shelf."""

    def __init__(self, evicted: Counter, purged: Counter) -> None:
        self.size = self.count = 0
        self.evicted, self.purged = evicted, purged

    def add(self, size: int) -> None:
        self.size += size
        self.count += 1

    def take(self, size: int) -> None:
        self.size -= size
        self.count -= 1

    def clear(self) -> None:
        self.purged.inc(self.count)
        self.size = self.count = 0
