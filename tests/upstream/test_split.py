"""Shares that change with time or by hand, and what that means for callers who stick to their arm."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from bff.core.identity import Caller
from bff.core.trace import Trace
from bff.upstream.affinity import point, ranked
from bff.upstream.client import Origin
from bff.upstream.split import RuleSettings, Split, Weights

TRACE = Trace("0" * 31 + "1", "0" * 15 + "1", sampled=False)
ARMS = ["stable", "canary", "next"]


class Wall:
    now = 1_800_000_000.0

    def __call__(self):
        return self.now


def split(wall, **rule):
    return Split("orders", [RuleSettings(**rule)], ARMS, Random(1), wall)  # noqa: S311


def arm_of(rules, n):
    return next(rules.arms(Origin(Caller(subject=f"usr_{n}", credential="jwt"), TRACE, "r", 0.0)))


def test_a_ramp_changes_the_shares_evenly_and_by_the_clock():
    wall = Wall()
    ramp = {"weights": {"stable": 50, "canary": 50}, "start": wall.now + 100, "over": 3600}
    rules = split(wall, weights={"stable": 95, "canary": 5}, ramp=ramp)
    seen = []
    for seconds in (0, 100, 1900, 3700, 99_999):
        wall.now = Wall.now + seconds
        weights = rules.weights.now()
        seen.append(round(weights["canary"] / sum(weights.values()), 4))
    assert seen == [0.05, 0.05, 0.275, 0.5, 0.5]


def test_as_a_share_grows_callers_move_to_it_and_nobody_else_moves():
    wall = Wall()
    rules = split(wall, weights={"stable": 90, "canary": 5, "next": 5}, sticky="subject")
    before = {n: arm_of(rules, n) for n in range(4000)}
    rules.weights.set({"stable": 90, "canary": 50, "next": 5}, 60)
    after = {n: arm_of(rules, n) for n in range(4000)}
    moved = [n for n in before if before[n] != after[n]]
    assert {after[n] for n in moved} == {"canary"}
    assert 0.25 < len(moved) / 4000 < 0.37
    counts = Counter(before.values())
    assert 0.04 < counts["canary"] / 4000 < 0.06
    assert 0.04 < counts["next"] / 4000 < 0.06


def test_who_sticks_to_what_is_the_same_for_ever():
    """A change of these numbers would move every caller of every gateway at once."""
    assert point("orders", "canary", "None\nusr_1") == pytest.approx(0.60123, abs=1e-5)
    rules = split(Wall(), weights={"stable": 50, "canary": 50}, sticky="subject")
    assert "".join(arm_of(rules, n)[0] for n in range(12)) == "csscsssssscs"


def test_services_choose_apart_from_each_other():
    rules = [
        Split(name, [RuleSettings(weights={"a": 1, "b": 1}, sticky="subject")], ["a", "b"], Random(1), Wall())  # noqa: S311
        for name in ("orders", "users")
    ]
    assert 300 < sum(arm_of(rules[0], n) == arm_of(rules[1], n) for n in range(1000)) < 700


def test_an_operators_weights_hold_for_their_time_and_then_the_configured_ones_again():
    wall = Wall()
    weights = Weights({"stable": 95.0, "canary": 5.0}, None, wall)
    weights.set({"stable": 1, "canary": 0}, 60)
    assert weights.now() == {"stable": 1, "canary": 0}
    assert weights.set_until == wall.now + 60
    wall.now += 60
    assert weights.now() == {"stable": 95, "canary": 5}
    assert weights.set_until is None
    weights.set({"canary": 1}, 60)
    weights.set({}, 0)
    assert weights.now() == {"stable": 95, "canary": 5}


@pytest.mark.parametrize("wrong", [{"canari": 1}, {"canary": -1}, {"canary": 0}])
def test_an_operators_mistake_changes_nothing(wrong):
    weights = Weights({"stable": 95.0, "canary": 5.0}, None, Wall())
    with pytest.raises(ValueError, match=r"arm|weights"):
        weights.set(wrong, 60)
    assert weights.now() == {"stable": 95, "canary": 5}


def test_an_arm_without_a_share_is_not_even_the_last_resort_of_its_rule():
    assert ranked({"a": 0.5, "b": 0.5}, {"a": 1, "b": 0}) == ["a"]
