"""The fuzzers are only as good as the bugs that they find: each of these is planted, and must be found."""

from __future__ import annotations

import gc
from itertools import islice
from typing import Any

import pytest

from bff.engine import arguments, columns, completion, failures, leaves, lists, objects, places, plan, plans, resolvers
from bff.engine import run as running
from bff.engine.columns import Column
from bff.engine.places import Step
from tests.breadth.documents import cases
from tests.breadth.judge import Judge, schema_of

MAX_DOCUMENTS = 150

pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

collect_subfields = plan.collect_subfields
climb = places.ItemsPlace.climb
fail = completion.Completion.fail
usable = completion.Completion.usable
checked_results = resolvers.checked_results
members = leaves._members


def off_by_one(self: Any, row: int, steps: list[Step]) -> int:
    which = climb(self, row, steps)
    step = steps.pop()
    steps.append(step._replace(key=int(step.key) + 1))
    return which


def unfiltered(self: Any) -> Any:
    found = sorted(self._found, key=failures._printed)
    return [failures.located_error(error, nodes, [step.key for step in steps]) for steps, error, nodes in found] or None


def never_lost(self: Any, run: Any, place: Any, row: int, error: BaseException, lost: set[int]) -> None:
    fail(self, run, place, row, error, set())


def errors_are_values(self: Any, run: Any, values: list[Any], place: Any) -> Any:
    return usable(self, run, [str(each) if isinstance(each, Exception) else each for each in values], place)


def shifted(count: int, parts: Any, lost: set[int]) -> Column:
    return columns.scattered(count, [(rows[1:] + rows[:1], part) for rows, part in parts], lost)


def swapped(results: Any, count: int, name: str) -> list[Any]:
    return checked_results(results, count, name)[::-1]


def first_mention_only(*about: Any) -> Any:
    *others, details, hide = about
    return collect_subfields(*others, details[:1], hide)


def some_member(leaf: Any, kinds: Any) -> Any:
    serialize = members(leaf, kinds)
    return lambda values: values and serialize([values[0]] * len(values))


BUGS = {
    "a null in a list does not travel up": (
        "sync",
        lists,
        "regrouped",
        lambda of, n: Column(columns.regrouped(of, n).values),
    ),
    "nulls are not written": ("sync", objects, "nulled", lambda column: column),
    "no null ever travels up": ("sync", completion.Completion, "fail", never_lost),
    "errors under a null are reported": ("sync", failures.Failures, "errors", unfiltered),
    "errors come as they are found": ("sync", failures, "_printed", lambda _: 0),
    "indices in paths are wrong": ("sync", places.ItemsPlace, "climb", off_by_one),
    "integers may have any size": ("sync", leaves, "_integers", lambda values: values),
    "floats may be no numbers": ("sync", leaves, "_floats", lambda values: values),
    "booleans may be anything": ("sync", leaves, "_booleans", lambda values: values),
    "scalars may return nothing": ("sync", leaves, "_NOTHING", frozenset()),
    "one enum member is as good as another": ("sync", leaves, "_members", some_member),
    "returned errors are values": ("sync", completion.Completion, "usable", errors_are_values),
    "rows of parts are shifted": ("sync", objects, "scattered", shifted),
    "wrong types are accepted": ("sync", objects.Objects, "_verdicts", lambda _s, _r, _v, rows, _p: [True] * len(rows)),
    "only the first mention of a field counts": ("sync", plan, "collect_subfields", first_mention_only),
    "conditions are those of the first request": ("sync", plans, "_deciding", lambda _: set()),
    "variables are those of the first request": ("sync", arguments, "_has_variables", lambda _: False),
    "results belong to other parents": ("batched", resolvers, "checked_results", swapped),
    "guards are not asked": ("shop", running.Run, "refusal", lambda *_: None),
    "records of other types are accepted": ("shop", objects.Objects, "_expects", lambda *_: True),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug, monkeypatch):
    name, owner, attribute, wrong = BUGS[bug]
    monkeypatch.setattr(owner, attribute, wrong)
    with pytest.raises(AssertionError):
        Judge(name).compare(islice(cases(schema_of(name), seed=0), MAX_DOCUMENTS))
    gc.collect()  # what the bug has left behind warns now, not in somebody else's test
