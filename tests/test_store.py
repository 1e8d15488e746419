"""The accounts, held to a model that remembers each unit: never more than the definition, never less."""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from limits import RateLimitItemPerMinute
from limits.strategies import MovingWindowRateLimiter

from bff.core.store import SLICES, MemoryStore, Slot, Window

WINDOWS = (
    Window("second", 5, 1),
    Window("minute", 20, 60),
    Window("day", 60, 86400),
    Window("today", 50, 86400, calendar=True),
)
SLOTS = (Slot("slots", 3),)


@dataclass
class Unit:
    """What was taken at once."""

    at: int
    cost: int
    slots: int
    reservation: object = field(repr=False)


def counts(window: Window, at: int, now: int) -> bool:
    """Whether what was spent at `at` counts: the definition in other words than the store's."""
    if window.span == 0:
        return at // window.slice == now // window.slice
    return now - now % window.slice - (at - at % window.slice) <= window.seconds * 1000


class Accounts(RuleBasedStateMachine):
    """Several callers, taking, settling and giving back at any time."""

    taken = Bundle("taken")

    def __init__(self):
        super().__init__()
        self.now = 1_700_000_000_000
        self.store = MemoryStore(clock=lambda: self.now / 1000)
        self.units: dict[str, list[Unit]] = {"one": [], "two": []}

    def total(self, key, window):
        return sum(each.cost for each in self.units[key] if counts(window, each.at, self.now))

    @rule(ms=st.one_of(st.integers(0, 2000), st.integers(0, 90_000), st.integers(0, 50_000_000)))
    def wait(self, ms):
        self.now += ms

    @rule(target=taken, key=st.sampled_from(["one", "two"]), cost=st.integers(1, 8), slots=st.booleans())
    def reserve(self, key, cost, slots):
        asked = SLOTS if slots else ()
        held = sum(each.slots for each in self.units[key])
        fits = [self.total(key, each) + cost <= each.amount for each in WINDOWS]
        decision = self.store.reserve(key, WINDOWS, cost, asked)
        assert (not decision.refusing) == (all(fits) and not (slots and held >= 3))
        unit = Unit(self.now, 0, 0, decision.reservation)
        if not decision.refusing:
            unit = Unit(self.now, cost, len(asked), decision.reservation)
            self.units[key].append(unit)
            assert all(self.total(key, each) <= each.amount for each in WINDOWS)
            for window in WINDOWS[:3]:  # in plain words: never more in any stretch that is as long
                recent = [each.cost for each in self.units[key] if each.at > self.now - window.seconds * 1000]
                assert sum(recent) <= window.amount
        else:
            assert set(decision.refusing) >= {each.name for each, fit in zip(WINDOWS, fits, strict=True) if not fit}
            self.check_wait(key, cost, decision, fits)
        assert [left for left, _ in decision.states] == [max(0, w.amount - self.total(key, w)) for w in WINDOWS]
        return unit

    def check_wait(self, key, cost, decision, fits):
        if decision.wait is None:
            assert any(cost > each.amount for each in WINDOWS)
            return
        then = self.now + decision.wait
        for window, fit in zip(WINDOWS, fits, strict=True):
            if not fit:
                spent = sum(each.cost for each in self.units[key] if counts(window, each.at, then))
                assert spent + cost <= window.amount, "whoever waits as long is let in, if nobody comes first"

    @rule(unit=consumes(taken), worth=st.integers(0, 8))
    def settle(self, unit, worth):
        if unit.reservation is not None:
            worth = min(worth, unit.cost)
            unit.reservation.settle(worth)
            unit.reservation.release()
            unit.cost, unit.slots = worth, 0

    @invariant()
    def what_is_told_is_what_is_counted(self):
        for key in self.units:
            states, _ = self.store.look(key, WINDOWS)
            for window, (left, more) in zip(WINDOWS, states, strict=True):
                assert left == max(0, window.amount - self.total(key, window)) <= window.amount
                assert 0 <= more <= window.seconds * 1010


TestAccounts = Accounts.TestCase
TestAccounts.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


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
    (log,) = store._accounts["one"].logs
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
