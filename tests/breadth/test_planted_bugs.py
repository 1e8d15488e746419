"""Planted bugs must be found: those that show in the gateway's own schema, or only in values as odd as these."""

from __future__ import annotations

import gc
from itertools import islice
from typing import Any

import pytest

from bff.engine import arguments, columns, completion, leaves, objects, resolvers
from bff.engine import run as running
from bff.engine.columns import Column
from tests.breadth.documents import cases
from tests.breadth.judge import Judge, schema_of

MAX_DOCUMENTS = 150

pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

usable = completion.Completion.usable
checked_results = resolvers.checked_results
members = leaves._members


def errors_are_values(self: Any, run: Any, values: list[Any], place: Any) -> Any:
    return usable(self, run, [str(each) if isinstance(each, Exception) else each for each in values], place)


def shifted(count: int, parts: Any, lost: set[int]) -> Column:
    return columns.scattered(count, [(rows[1:] + rows[:1], part) for rows, part in parts], lost)


def swapped(results: Any, count: int, name: str) -> list[Any]:
    return checked_results(results, count, name)[::-1]


def some_member(leaf: Any, kinds: Any) -> Any:
    serialize = members(leaf, kinds)
    return lambda values: values and serialize([values[0]] * len(values))


BUGS = {
    "rows of parts are shifted": ("shop", objects, "scattered", shifted),
    "results belong to other parents": ("shop", resolvers, "checked_results", swapped),
    "one enum member is as good as another": ("shop", leaves, "_members", some_member),
    "guards are not asked": ("shop", running.Run, "refusal", lambda *_: None),
    "records of other types are accepted": ("shop", objects.Objects, "_expects", lambda *_: True),
    "returned errors are values": ("sync", completion.Completion, "usable", errors_are_values),
    "booleans may be anything": ("sync", leaves, "_booleans", lambda values: values),
    "scalars may return nothing": ("sync", leaves, "_NOTHING", frozenset()),
    "variables are those of the first request": ("sync", arguments, "_has_variables", lambda _: False),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug, monkeypatch):
    name, owner, attribute, wrong = BUGS[bug]
    monkeypatch.setattr(owner, attribute, wrong)
    if owner is arguments:
        monkeypatch.setattr(arguments, "_passed", lambda *_: None)
    with pytest.raises(AssertionError):
        Judge(name).compare(islice(cases(schema_of(name), seed=0), MAX_DOCUMENTS))
    gc.collect()  # what the bug has left behind warns now, not in somebody else's test
