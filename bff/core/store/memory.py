"""Accounts in memory: what each caller spent in each of its windows, exactly, and what it has under way.

A sliding window is counted in hundredths of itself: a unit counts until all of the window has passed since the
hundredth in which it was spent. So in any stretch of time as long as the window there are never more units than its
amount, and they come back a hundredth of the window late at most. See docs/adr/0010-one-ledger.md.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec
from limits.storage import Storage
from limits.storage.base import MovingWindowSupport

from bff.core.store.account import Decision, Slot, Window


class _Log:
    """What was spent of one window, by slice: `[number, units]`, the oldest first."""

    __slots__ = ("slices", "total")

    def __init__(self) -> None:
        self.total = 0
        self.slices: list[list[int]] = []

    def counted(self, oldest: int) -> int:
        """What still counts, from this slice on."""
        slices = self.slices
        while slices and slices[0][0] < oldest:
            self.total -= slices.pop(0)[1]
        return self.total

    def add(self, number: int, cost: int) -> list[int]:
        self.total += cost
        slices = self.slices
        if slices and (last := slices[-1])[0] >= number:  # a clock may be set back
            last[1] += cost
        else:
            slices.append(last := [number, cost])
        return last

    def change(self, entry: list[int], by: int) -> None:
        slices = self.slices
        if slices and slices[0][0] <= entry[0]:  # else it counts no more
            entry[1] += by
            self.total += by

    def freed(self, units: int, window: Window, now: int) -> int:
        """Milliseconds until as many units count no more."""
        for number, spent in self.slices:
            units -= spent
            if units <= 0:
                return max(0, (number + window.span + 1) * window.slice - now)
        return window.seconds * 1000


class _Account:
    __slots__ = ("held", "logs", "windows")

    def __init__(self, windows: Sequence[Window]) -> None:
        self.windows = windows
        self.logs = [(each, _Log()) for each in windows]
        self.held: dict[str, int] = {}

    def fit(self, windows: Sequence[Window]) -> None:
        """Since the configuration is another one: of windows that are as long as before, what was spent stays spent."""
        known = {_length(window): log for window, log in self.logs}
        self.windows = windows
        self.logs = [(each, known.get(_length(each)) or _Log()) for each in windows]

    def take(self, now: int, cost: int, slots: Sequence[Slot], *, enforced: bool = False) -> Held:
        """Units of all windows, or of those that are enforced, and a slot of each."""
        entries = []
        for window, log in self.logs:
            if not enforced or window.enforced:
                entries.append((log, log.add(now // window.slice, cost)))
        for slot in slots:
            self.held[slot.name] = self.held.get(slot.name, 0) + 1
        return Held(self, entries, cost, slots)


def _length(window: Window) -> tuple[str, int, int]:
    return window.name, window.slice, window.span


class Held(msgspec.Struct, eq=False):
    """Units that were taken, until it is known what they were worth; and slots, until they are given back."""

    _account: _Account
    _entries: list[tuple[_Log, list[int]]]
    cost: int
    _slots: Sequence[Slot]

    def settle(self, cost: int) -> None:
        """Pay `cost` instead of what was taken: the rest is given back where it was taken. Slots are kept."""
        for log, entry in self._entries:
            log.change(entry, cost - self.cost)
        self.cost = cost

    def release(self) -> None:
        """Give the slots back."""
        held, slots = self._account.held, self._slots
        self._slots = ()
        for slot in slots:
            held[slot.name] -= 1
            if not held[slot.name]:
                del held[slot.name]


class MemoryStore(Storage, MovingWindowSupport):
    """Accounts by key; past `size` of them, the one that was used longest ago is forgotten.

    To `limits`, and so to slowapi, it is a storage for moving windows. Theirs in memory keeps an entry for each unit,
    has no bound, and starts a thread every 10 ms to drop what has expired.
    """

    STORAGE_SCHEME = ["bounded-memory"]  # noqa: RUF012 - as `limits` reads it

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._size = int(options.get("size", 100_000))
        self.clock: Callable[[], float] = options.get("clock", time.time)
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def __contains__(self, key: str) -> bool:
        return key in self._accounts

    def reserve(self, key: str, windows: Sequence[Window], cost: int, slots: Sequence[Slot] = ()) -> Decision:
        """Take `cost` units from every window and one of each slot, or nothing from any."""
        account, now = self._account(key, windows), int(self.clock() * 1000)
        states = []
        for window, log in account.logs:
            number = now // window.slice
            slices = log.slices
            oldest = slices[0][0] if slices else number
            if oldest < number - window.span:
                log.counted(number - window.span)
                oldest = slices[0][0] if slices else number
            left = window.amount - log.total - cost
            if left < 0:
                return self._without_room(account, cost, slots, now)
            states.append((left, (oldest + window.span + 1) * window.slice - now))
        for slot in slots:
            if account.held.get(slot.name, 0) >= slot.most:
                return self._without_room(account, cost, slots, now)
        return Decision((), (), states, 0, account.take(now, cost, slots))

    def _without_room(self, account: _Account, cost: int, slots: Sequence[Slot], now: int) -> Decision:
        short, over = self._short(account, cost, slots, now)
        if short:
            wait = self._wait(account, cost, now)
            return Decision(tuple(short), tuple(over), _states(account, now), wait)
        # Of what is only measured, nothing is taken that would have been refused.
        held = account.take(now, cost, slots, enforced=True)
        return Decision((), tuple(over), _states(account, now), 0, held)

    def latest(self, most: int) -> list[str]:
        """The keys that were used last, the newest first."""
        return list(islice(reversed(self._accounts), most))

    def look(self, key: str, windows: Sequence[Window]) -> tuple[list[tuple[int, int]], dict[str, int]]:
        """The state of each window, and how many of each slot are taken, without an account being made for it."""
        account = self._accounts.get(key) or _Account(windows)
        if account.windows is not windows:
            account.fit(windows)
        return _states(account, int(self.clock() * 1000)), dict(account.held)

    @staticmethod
    def _short(account: _Account, cost: int, slots: Sequence[Slot], now: int) -> tuple[list[str], list[str]]:
        """The names of the limits that have no room: of those that refuse, and of those that are measured."""
        short: list[str] = []
        over: list[str] = []
        for window, log in account.logs:
            if log.counted(now // window.slice - window.span) + cost > window.amount:
                (short if window.enforced else over).append(window.name)
        for slot in slots:
            if account.held.get(slot.name, 0) >= slot.most:
                (short if slot.enforced else over).append(slot.name)
        return short, over

    @staticmethod
    def _wait(account: _Account, cost: int, now: int) -> int | None:
        wait = 0
        for window, log in account.logs:
            if window.enforced and log.total + cost > window.amount:
                if cost > window.amount:
                    return None
                wait = max(wait, log.freed(log.total + cost - window.amount, window, now))
        return wait

    def _account(self, key: str, windows: Sequence[Window]) -> _Account:
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account(windows)
            if len(self._accounts) > self._size:
                self._accounts.popitem(last=False)
        else:
            self._accounts.move_to_end(key)
            if account.windows is not windows:
                account.fit(windows)
        return account

    # What `limits` asks of a storage for moving windows.

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """As `reserve`, for good."""
        ((window, log),) = self._account(key, _alone(limit, expiry)).logs
        number = int(self.clock() * 1000) // window.slice
        if log.counted(number - window.span) + amount > limit:
            return False
        log.add(number, amount)
        return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the window begins that has the oldest unit in it, and how many there are."""
        ((left, more),), _ = self.look(key, _alone(limit, expiry))
        return self.clock() + more / 1000 - expiry, limit - left

    def clear(self, key: str) -> None:
        self._accounts.pop(key, None)

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        count = len(self._accounts)
        self._accounts.clear()
        return count

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Needed by fixed windows, which are not used here."""
        raise NotImplementedError

    def get(self, key: str) -> int:
        raise NotImplementedError

    def get_expiry(self, key: str) -> float:
        raise NotImplementedError


def _states(account: _Account, now: int) -> list[tuple[int, int]]:
    states = []
    for window, log in account.logs:
        spent = log.counted(now // window.slice - window.span)
        more = (log.slices[0][0] + window.span + 1) * window.slice - now if log.slices else 0
        states.append((max(0, window.amount - spent), more))
    return states


@lru_cache(maxsize=16)
def _alone(amount: int, seconds: int) -> tuple[Window]:
    return (Window("alone", amount, seconds),)


# `limits` puts a wrapper around each of these for what a storage may raise; these raise nothing.
for _name in ("acquire_entry", "get_moving_window"):
    setattr(MemoryStore, _name, getattr(MemoryStore, _name).__wrapped__)
