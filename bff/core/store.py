"""Counters in memory, for one process: a storage for `limits` that starts no thread and never grows past its bound."""

from __future__ import annotations

import time
from collections import OrderedDict
from math import floor
from typing import Any

from limits.storage import Storage
from limits.storage.base import SlidingWindowCounterSupport


class _Counter:
    """What was counted in one period and in the one before it."""

    __slots__ = ("current", "period", "previous")

    def __init__(self, period: int) -> None:
        self.period = period
        self.previous = self.current = 0

    def move_to(self, period: int) -> None:
        self.previous = self.current if period == self.period + 1 else 0
        self.current = 0
        self.period = period


class BoundedMemory(Storage, SlidingWindowCounterSupport):
    """Sliding window counters by key, each of one period; past `size` keys, the one used longest ago is forgotten.

    `limits`' own memory storage starts a thread every 10 ms to drop what has expired, and has no bound.
    """

    STORAGE_SCHEME = ["bounded-memory"]  # noqa: RUF012 - as `limits` reads it

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._size = int(options.get("size", 100_000))
        self._counters: OrderedDict[str, _Counter] = OrderedDict()

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        counter, weight, _ = self._counter(key, expiry)
        if floor(counter.previous * weight) + counter.current + amount > limit:
            return False
        counter.current += amount
        return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        counter, weight, left = self._counter(key, expiry)
        return counter.previous, weight * expiry if counter.previous else 0.0, counter.current, left + expiry

    def clear_sliding_window(self, key: str, expiry: int) -> None:  # noqa: ARG002 - its signature is `limits`'
        self._counters.pop(key, None)

    def _counter(self, key: str, expiry: int) -> tuple[_Counter, float, float]:
        """The key's counter, how much of the previous period still counts, and the seconds left of the present one."""
        now = time.time()
        period = int(now // expiry)
        gone = now - period * expiry
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = _Counter(period)
            if len(self._counters) > self._size:
                self._counters.popitem(last=False)
        else:
            self._counters.move_to_end(key)
            if counter.period != period:
                counter.move_to(period)
        return counter, 1 - gone / expiry, expiry - gone

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Needed by windows of other kinds, which are not used here."""
        raise NotImplementedError

    def get(self, key: str) -> int:
        raise NotImplementedError

    def get_expiry(self, key: str) -> float:
        raise NotImplementedError

    def clear(self, key: str) -> None:
        self._counters.pop(key, None)

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        count = len(self._counters)
        self._counters.clear()
        return count


# `limits` puts a wrapper around each of these for what a storage may raise; these raise nothing.
for _name in ("acquire_sliding_window_entry", "get_sliding_window"):
    setattr(BoundedMemory, _name, getattr(BoundedMemory, _name).__wrapped__)
