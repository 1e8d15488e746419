"""The answers of graphql-core, over the gateway's own schema and over values that break every promise of their types.

What these add to the engine's own fuzzing: the gateway's schema, with its guards, records and batches; variables of
every type, nulls that a default lets through, and resolvers that return generators, wrong kinds and `Undefined`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from itertools import islice

import pytest

from tests.breadth.documents import cases
from tests.breadth.judge import SCHEMAS, Judge, schema_of

SEED = int(os.environ.get("FUZZ_SEED", "0"))
FEW, MANY = 90, 1400
"""Documents of each schema; most are executed four times."""

# Graphql-core drops some coroutines of its own when an error makes them useless.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize("name", SCHEMAS)
def test_any_operation_is_answered_as_by_graphql_core(name):
    compared(name, SEED, FEW)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SCHEMAS)
def test_very_many_operations_are_answered_as_by_graphql_core(name):
    compared(name, SEED + 1, MANY)


@pytest.mark.parametrize("name", SCHEMAS)
def test_no_coroutine_is_left_behind(name):
    judge = Judge(name)
    with warnings.catch_warnings(record=True) as left, asyncio.Runner() as runner:
        warnings.simplefilter("always")
        for case in islice(cases(schema_of(name), SEED + 2), FEW // 3):
            for variables in case.variables:
                judge.answer(case, variables, judge.executor, runner)
        gc.collect()
    assert [str(each.message) for each in left] == []


def compared(name: str, seed: int, count: int) -> None:
    judge = Judge(name)
    judge.compare(islice(cases(schema_of(name), seed), count))
    assert judge.count > 3 * count
    # Graphql-core refuses a null in @skip and @include better than we could; there is nothing else that it is left.
    assert set(judge.fallbacks) <= {"unfit directive arguments"}
    assert len(judge.fallbacks) < judge.count / 20
