"""What caches keep their answers in: values by key within a number of bytes, found by tag where they have to go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable
from typing import Annotated, Generic, NamedTuple, TypeVar

from prometheus_client import Counter, Gauge
from pydantic import Field

from bff.core.settings import Settings, Size
from bff.core.telemetry import Telemetry

T = TypeVar("T")
Tag = tuple[str, ...]

# Python's own share of a value with its key, its headers and its place in the tables.
_OVERHEAD = 1024
_EACH_TAG = 128


class CacheSettings(Settings):
    max_size: Annotated[Size, Field(ge=1024)] = 64 * 1024 * 1024
    """Bytes of all that is kept; what was used longest ago goes first."""
    max_answer: Annotated[Size, Field(ge=1)] = 1024 * 1024
    """Bytes of one answer; a larger one is passed on and not kept."""
    max_refreshes: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Answers that are asked for anew at a time, while clients are given the stale one (`stale-while-revalidate`)."""


class _Item(NamedTuple):
    value: object
    size: int
    tags: Collection[Tag]


class Shelf(Generic[T]):
    """Least recently used first out.

    Args:
        max_size: bytes, by what whoever puts something there says of it.
        telemetry: what is told how full it is.
    """

    def __init__(self, max_size: int, telemetry: Telemetry) -> None:
        self.size = 0
        self._max_size = max_size
        self._items: OrderedDict[Hashable, _Item] = OrderedDict()
        self._tagged: dict[Tag, set[Hashable]] = {}
        registry = telemetry.registry
        Gauge("bff_cache_bytes", "What the caches keep.", registry=registry).set_function(lambda: self.size)
        Gauge("bff_cache_answers", "How many answers they keep.", registry=registry).set_function(
            lambda: len(self._items)
        )
        self._evicted = Counter(
            "bff_cache_evictions", "Answers that went since there was no room for them.", registry=registry
        )
        self._purged = Counter(
            "bff_cache_purges", "Answers that went since something had changed, or by an operator.", registry=registry
        )

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Hashable) -> T | None:
        item = self._items.get(key)
        if item is None:
            return None
        self._items.move_to_end(key)
        return item.value  # type: ignore[return-value]  # what `put` was given

    def put(self, key: Hashable, value: T, size: int, tags: Collection[Tag] = ()) -> None:
        """Keep it, in place of what was there; what is larger than the whole shelf is not kept."""
        self.drop(key)
        size += _OVERHEAD + _EACH_TAG * len(tags)
        if size > self._max_size:
            return
        self._items[key] = _Item(value, size, tags)
        self.size += size
        for tag in tags:
            self._tagged.setdefault(tag, set()).add(key)
        while self.size > self._max_size:
            self.drop(next(iter(self._items)))
            self._evicted.inc()

    def drop(self, key: Hashable) -> bool:
        """Whether it was there."""
        item = self._items.pop(key, None)
        if item is None:
            return False
        self.size -= item.size
        for tag in item.tags:
            keys = self._tagged[tag]
            keys.discard(key)
            if not keys:
                del self._tagged[tag]
        return True

    def purge(self, *tags: Tag) -> int:
        """Drop all that has one of these tags: how many there were."""
        keys = set[Hashable]().union(*(self._tagged.get(tag, ()) for tag in tags))
        for key in keys:
            self.drop(key)
        self._purged.inc(len(keys))
        return len(keys)

    def clear(self) -> int:
        """Drop all: how many there were."""
        count = len(self._items)
        self._items.clear()
        self._tagged.clear()
        self.size = 0
        self._purged.inc(count)
        return count
