"""Accounts, in memory and in a real Valkey that several gateways share, held to a model that remembers each unit.

Never more than the definition, never less, and the same decisions in both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from bff.core.store import MemoryStore, Slot, Window
from bff.core.store.wire import command
from tests.store.conftest import decided, ledger

WINDOWS = (
    Window("second", 5, 1),
    Window("minute", 20, 60),
    Window("day", 60, 86400),
    Window("today", 50, 86400, calendar=True),
)
SLOTS = (Slot("slots", 3),)
WORKERS = 3
STRETCHES = st.one_of(
    st.sampled_from([10, 500, 990, 1000, 1010, 30_000, 59_400, 60_000, 60_600]),  # as slices and windows are long
    st.integers(0, 2000),
    st.integers(0, 90_000),
    st.integers(0, 50_000_000),
)
RUNS = settings(max_examples=40, stateful_step_count=30, deadline=None)
_RUNS = count()


class Workers:
    """Gateways that share a Valkey, on one virtual clock, next to the same accounts in one memory."""

    def __init__(self, url: str) -> None:
        self.now = 0
        self.loop = asyncio.new_event_loop()
        self.memory = MemoryStore(clock=self.clock)
        self.ledgers = self.run(self._open(url))

    def clock(self) -> float:
        return self.now / 1000

    def run(self, doing):
        return self.loop.run_until_complete(doing)

    async def _open(self, url):
        ledgers = [ledger(url, clock=self.clock) for _ in range(WORKERS)]
        for each in ledgers:
            await each.store.open()
        return ledgers

    def close(self):
        for each in self.ledgers:
            self.run(each.store.close())
        self.loop.close()

    def wait(self, ms):
        self.now += ms
        for each in self.ledgers:  # the living say so in time; what the dead held is tested by itself
            self.run(each.stay())
        self.catch_up()

    def reserve(self, key, windows, cost, slots, worker):
        """What both decide, which has to be the same."""
        here = self.memory.reserve(key, windows, cost, slots)
        there = self.run(self.ledgers[worker].reserve(key, windows, cost, slots))
        assert decided(here) == decided(there)
        return here, there

    def catch_up(self):
        """What nobody waits for has been done, by whichever gateway it was sent."""

        async def answers():
            return await asyncio.gather(*(each.store.call(b"", command("PING")) for each in self.ledgers))

        self.run(answers())

    def look(self, key, windows, slots, worker):
        here = self.memory.look(key, windows)
        there = self.run(self.ledgers[worker].look(key, windows, slots))
        unused = ([(each.amount, 0) for each in windows], {})
        assert (there or unused) == here
        return here


@pytest.fixture
def workers(valkey) -> Iterator[Workers]:
    with _workers(valkey.url) as found:
        yield found


@contextmanager
def _workers(url):
    found = Workers(url)
    try:
        yield found
    finally:
        found.close()


@dataclass
class Unit:
    """What was taken at once."""

    at: int
    cost: int
    slots: int
    reservations: tuple = field(repr=False)


def counts(window: Window, at: int, now: int) -> bool:
    """Whether what was spent at `at` counts: the definition in other words than the store's."""
    if window.span == 0:
        return at // window.slice == now // window.slice
    return now - now % window.slice - (at - at % window.slice) <= window.seconds * 1000


class Accounts(RuleBasedStateMachine):
    """Several callers at several gateways, taking, settling and giving back at any time."""

    taken = Bundle("taken")

    def __init__(self, workers):
        super().__init__()
        self.workers = workers
        workers.now = 1_700_000_000_000
        self.run = next(_RUNS)
        self.units: dict[str, list[Unit]] = {"one": [], "two": []}

    @property
    def now(self):
        return self.workers.now

    def name(self, key):
        return f"model-{self.run}/{key}"

    def total(self, key, window):
        return sum(each.cost for each in self.units[key] if counts(window, each.at, self.now))

    @rule(ms=STRETCHES)
    def wait(self, ms):
        self.workers.wait(ms)

    @rule(
        target=taken, key=st.sampled_from(["one", "two"]), cost=st.integers(1, 8), slots=st.booleans(),
        worker=st.integers(0, WORKERS - 1),
    )  # fmt: skip
    def reserve(self, key, cost, slots, worker):
        asked = SLOTS if slots else ()
        held = sum(each.slots for each in self.units[key])
        fits = [self.total(key, each) + cost <= each.amount for each in WINDOWS]
        decision, shared = self.workers.reserve(self.name(key), WINDOWS, cost, asked, worker)
        assert (not decision.refusing) == (all(fits) and not (slots and held >= 3))
        unit = Unit(self.now, 0, 0, ())
        if not decision.refusing:
            unit = Unit(self.now, cost, len(asked), (decision.reservation, shared.reservation))
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
        worth = min(worth, unit.cost)
        for each in unit.reservations:
            each.settle(worth)
            each.release()
        unit.cost, unit.slots = worth, 0
        self.workers.catch_up()

    @invariant()
    def what_is_told_is_what_is_counted(self):
        for key in self.units:
            states, _ = self.workers.look(self.name(key), WINDOWS, SLOTS, 0)
            for window, (left, more) in zip(WINDOWS, states, strict=True):
                assert left == max(0, window.amount - self.total(key, window)) <= window.amount
                assert 0 <= more <= window.seconds * 1010


def test_never_more_than_the_definition_says_and_never_less(workers):
    run_state_machine_as_test(lambda: Accounts(workers), settings=RUNS)


PERIODS = st.sampled_from([(1, False), (60, False), (60, True), (3600, False)])


class Twins(RuleBasedStateMachine):
    """Any limits, some only measured, some twice; clocks that are set back; many at once."""

    taken = Bundle("taken")

    def __init__(self, workers):
        super().__init__()
        self.workers = workers
        workers.now = 1_700_000_000_000
        self.key = f"twins-{next(_RUNS)}/one"
        self.limits: dict[bool, tuple] = {}

    def terms(self, data):
        """The same throughout: a tier's limits change only with the configuration."""
        if not self.limits:
            made = data.draw(st.lists(st.tuples(PERIODS, st.integers(1, 40), st.booleans()), max_size=5))
            windows = tuple(
                Window(f"w{seconds}", amount, seconds, calendar=calendar, enforced=enforced)
                for (seconds, calendar), amount, enforced in made
            )
            slots = tuple(
                Slot(f"s{at}", most, enforced)
                for at, (most, enforced) in enumerate(
                    data.draw(st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=2))
                )
            )
            self.limits = {True: (windows, slots), False: (windows, ())}
        return self.limits[data.draw(st.booleans())]

    @rule(ms=st.one_of(st.integers(-700, 0), STRETCHES))
    def wait(self, ms):
        self.workers.wait(ms)

    @rule(target=taken, cost=st.integers(1, 50), worker=st.integers(0, WORKERS - 1), data=st.data())
    def reserve(self, cost, worker, data):
        windows, slots = self.terms(data)
        decisions = self.workers.reserve(self.key, windows, cost, slots, worker)
        return [each.reservation for each in decisions if each.reservation]

    @rule(cost=st.integers(1, 5), data=st.data())
    def race(self, cost, data):
        """All at once, it is the same as one after the other."""
        windows, slots = self.terms(data)
        here = [self.workers.memory.reserve(self.key, windows, cost, slots) for _ in range(2 * WORKERS)]

        async def raced():
            return await asyncio.gather(
                *(each.reserve(self.key, windows, cost, slots) for each in self.workers.ledgers * 2)
            )

        there = self.workers.run(raced())
        assert sorted(map(repr, map(decided, here))) == sorted(map(repr, map(decided, there)))
        for each in [*here, *there]:
            if each.reservation:
                each.reservation.release()
        self.workers.catch_up()

    @rule(both=consumes(taken), worth=st.integers(0, 60))
    def settle(self, both, worth):
        for each in both:
            each.settle(worth)
            each.release()
        self.workers.catch_up()

    @invariant()
    def both_tell_the_same(self):
        if self.limits:
            self.workers.look(self.key, *self.limits[True], 1)


def test_memory_and_a_shared_store_decide_the_same(workers):
    run_state_machine_as_test(lambda: Twins(workers), settings=RUNS)
