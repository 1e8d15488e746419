"""Accounts in memory: bounded, small, and full under load. What they decide is in test_accounts.py."""

from __future__ import annotations

import sys
import tracemalloc

from limits import RateLimitItemPerMinute
from limits.strategies import MovingWindowRateLimiter

from bff.core.store import SLICES, MemoryStore, Window


def test_so_many_accounts_are_kept_and_no_more_and_they_are_small():
    windows = (Window("second", 50, 1), Window("minute", 600, 60))
    store = MemoryStore(size=10_000, clock=lambda: 1_700_000_000.0)
    tracemalloc.start()
    for n in range(11_000):
        store.reserve(f"default/subject:usr_{n}", windows, 1)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(store) == 10_000
    assert used < 1200 * 10_000, f"{used / 10_000:.0f} bytes an account"
    assert store.look("default/subject:usr_0", windows)[0][0][0] == 50, "the one seen longest ago begins anew"


def test_a_busy_account_has_as_many_entries_as_a_window_has_slices():
    now = 1_700_000_000.0
    store = MemoryStore(clock=lambda: now)
    windows = (Window("minute", 1_000_000, 60),)
    for _ in range(20_000):
        store.reserve("one", windows, 1)
        now += 0.01
    ((_, log),) = store._accounts["one"].logs
    assert len(log.slices) <= SLICES + 1
    assert sys.getsizeof(log.slices) < 2000


def test_under_full_load_as_much_is_admitted_as_the_definition_says():
    now = 1_700_000_000_000
    store = MemoryStore(clock=lambda: now / 1000)
    windows = (Window("second", 100, 1),)
    admitted = []
    while now < 1_700_000_000_000 + 20_000:
        if not store.reserve("one", windows, 1).refusing:
            admitted.append(now)
        now += 1
    most = max(sum(start <= each < start + 1000 for each in admitted) for start in admitted)
    assert most == 100
    assert len(admitted) >= 0.99 * 100 * 20


def test_limits_own_strategy_counts_the_same():
    now = 1_700_000_000.0
    strategy, item = MovingWindowRateLimiter(MemoryStore(clock=lambda: now)), RateLimitItemPerMinute(3)
    assert [strategy.hit(item, "one") for _ in range(4)] == [True, True, True, False]
    assert strategy.get_window_stats(item, "one").remaining == 0
    assert 60 <= strategy.get_window_stats(item, "one").reset_time - now <= 60.6
    assert not strategy.test(item, "one")
    now += 60.6
    assert strategy.hit(item, "one", cost=3)
    assert not strategy.hit(item, "one")
