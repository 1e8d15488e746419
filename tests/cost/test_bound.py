"""No operation makes more calls than its bound, whatever it asks and whatever services answer; at worst, as many."""

from __future__ import annotations

import asyncio
import os
import sys
from math import isnan
from random import Random
from typing import Any

import pytest
from graphql import execute, parse, validate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bff.core.identity import Caller
from bff.engine import BreadthExecutor, Weighed
from bff.graphql import shape, sources, weights, worst
from bff.graphql.compose import compose
from bff.graphql.context import Context
from bff.graphql.cost import Costs, Estimate, OperationCost, weigh
from bff.graphql.weights import Bound
from tests.cost import world
from tests.cost.operations import Operation

SCHEMA = compose([world.here])._schema
MAX_BATCH = {"shops": 3, "people": 4, "items": 5}


class Service:
    def __init__(self, name: str) -> None:
        self.max_batch = MAX_BATCH[name]
        self.gathering = self.batches = None


class Upstream:
    def __init__(self, name: str) -> None:
        self.service = Service(name)

    def reading(self, _: object) -> Upstream:
        return self


class Weighing(BreadthExecutor):
    weigh = staticmethod(weigh)


def cost(operation: Operation) -> OperationCost:
    document = parse(operation.text)
    assert validate(SCHEMA, document) == [], operation.text
    return Costs(SCHEMA, MAX_BATCH, 200).of(document, document.definitions[0])


def bound(operation: Operation) -> Estimate:
    return cost(operation).estimate(operation.variables)


def observed(operation: Operation, seed: int, *, worst: bool) -> dict[str, int]:
    return executed(operation, seed, worst=worst)[1].made


def executed(operation: Operation, seed: int, *, worst: bool) -> tuple[Any, Context]:
    world.now = world.World(seed, worst=worst)
    context = Context(Caller(), Upstream)

    async def run() -> Any:
        result = execute(
            SCHEMA,
            parse(operation.text),
            context_value=context,
            variable_values=operation.variables,
            executor_class=Weighing,
        )
        return await result if not hasattr(result, "data") else result

    result = asyncio.run(run())
    if worst:
        assert not result.errors, (operation.text, result.errors)
    return result, context


def check_bound(seed: int) -> None:
    operation = Operation(Random(seed), exact=False)
    most = bound(operation)
    made = observed(operation, seed, worst=Random(seed).random() < 0.3)
    assert most.exceeded(made) == {}, (operation.text, operation.variables, most, made)
    assert sum(made.values()) <= (most.calls or 0)


def check_weight(seed: int) -> bool:
    """Whether the engine has counted, and if so, rightly."""
    operation = Operation(Random(seed), exact=False)
    result, _ = executed(operation, seed, worst=False)
    if result.errors or not isinstance(result, Weighed) or isnan(result.weight):
        return False
    costs = cost(operation)
    gone_through = costs.actual(operation.variables, result.data)
    assert costs.actual(operation.variables, result.data, result.weight) == gone_through, operation.text
    return True


def check_equal(seed: int) -> None:
    operation = Operation(Random(seed), exact=True)
    most = bound(operation)
    tries = []
    for each in range(4):
        made = observed(operation, seed + each, worst=True)
        assert most.exceeded(made) == {}, (operation.text, operation.variables, most, made)
        tries.append(made)
        if sum(made.values()) == most.calls:
            assert made == {name: count for name, count in most.by_source.items() if count}
            return
    raise AssertionError((operation.text, operation.variables, most, tries))


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**40))
def test_no_operation_makes_more_calls_than_its_bound(seed):
    check_bound(seed)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**40))
def test_at_worst_it_makes_as_many(seed):
    check_equal(seed)


def test_what_the_engine_counts_is_what_going_through_the_answer_finds():
    counted = [check_weight(seed) for seed in range(400)]
    assert sum(counted) > 100, "of most operations without errors and interfaces"


@pytest.mark.fuzz
@pytest.mark.timeout(1800)
def test_the_same_for_many_more():
    check_many(10_000, begin=int(os.environ.get("FUZZ_SEED", "0")))


def check_many(count: int, begin: int = 0) -> None:
    for seed in range(begin, begin + count):
        check_bound(seed)
        check_equal(seed)


# Planted bugs: the tests above are worth what they notice.


def always(value: bool) -> property:
    """Whatever the code finds out, it is this."""
    return property(lambda _: value, lambda *_: None)


def in_one_wave(self: worst.Walk, source: Any, arguments: str, at: worst.At, *rest: Any) -> Any:
    return TOGETHER(self, source, arguments, at._replace(wave="any"), *rest)


TOGETHER = worst.Walk._together
MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "calls are rounded down": (worst.Group, "calls", lambda self, _: max(1, sum(self.keys.values()) // 5)),
    "keys are never too many": (worst.Group, "calls", lambda self, _: min(1, sum(self.keys.values()))),
    "lists are as long as assumed": (worst.Walk, "_size", lambda *_: Bound(1, 1)),
    "arguments make no difference": (sources._Code, "has_where", always(False)),
    "all waves are one": (worst.Walk, "_together", in_one_wave),
    "an unknown type asks for nothing": (worst.Walk, "_apart", lambda *_: 0.0),
    "pages have one item": (worst.Walk, "_sliced", lambda *_: Bound(1, 1)),
    "nothing is skipped": (shape, "_is_wanted", lambda *_: True),
    "all is skipped": (shape, "_is_wanted", lambda directives, _: not directives),
    "fragments are left out": (shape.Shaper, "_applies", lambda *_: False),
    "long pages are left as they are": (weights, "_pages", lambda _: lambda values, __: values),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_noticed(monkeypatch, name):
    target, attribute, value = MUTANTS[name]
    monkeypatch.setattr(target, attribute, value, raising=False)
    monkeypatch.setattr(sys.modules[__name__], "SCHEMA", compose([world.here])._schema)
    with pytest.raises(AssertionError):
        check_many(1500)
