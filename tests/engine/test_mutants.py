"""Planted bugs: the fuzzer is worth what it notices.

Each mutant breaks one thing that the engine must get right.
"""

from collections.abc import Callable
from typing import Any

import pytest
from graphql import GraphQLBoolean, GraphQLFloat, GraphQLInt, GraphQLSchema

from bff.engine import (
    arguments,
    completion,
    failures,
    leaves,
    lists,
    objects,
    operation,
    places,
    plan,
    plans,
    resolvers,
    waves,
)
from bff.engine.columns import Column, scattered
from bff.engine.values import is_plain
from tests.engine import synthetic
from tests.engine.test_fuzz import fuzz, fuzz_menagerie

Plant = Callable[[pytest.MonkeyPatch], None]

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MUTANTS: dict[str, Plant] = {}


def mutant(plant: Plant) -> Plant:
    MUTANTS[plant.__name__] = plant
    return plant


@mutant
def items_do_not_lose_their_list(patch: pytest.MonkeyPatch) -> None:
    right = lists.regrouped
    patch.setattr(lists, "regrouped", lambda items, lengths: Column(right(items, lengths).values))


@mutant
def lost_rows_are_left_standing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(objects, "nulled", lambda column: Column(column.values))


@mutant
def errors_under_a_null_are_reported_too(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(failures, "_null_at", lambda steps: len(steps) + 1)


@mutant
def errors_come_as_they_are_found(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(failures, "_printed", lambda failure: 0)


@mutant
def integers_may_be_of_any_size(patch: pytest.MonkeyPatch) -> None:
    taken = {int}
    patch.setitem(leaves._SPECIFIED, GraphQLInt, lambda values: values if set(map(type, values)) <= taken else None)


@mutant
def floats_need_not_be_numbers(patch: pytest.MonkeyPatch) -> None:
    taken = {float}
    patch.setitem(leaves._SPECIFIED, GraphQLFloat, lambda values: values if set(map(type, values)) <= taken else None)


@mutant
def a_null_may_stand_where_a_leaf_is_required(patch: pytest.MonkeyPatch) -> None:
    right = leaves.serializer
    patch.setattr(leaves, "serializer", lambda leaf: leaves.with_nulls(right(leaf)))


@mutant
def enum_members_are_printed_by_their_python_value(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        leaves, "_members", lambda _leaf, _enum: lambda values: [getattr(each, "value", each) for each in values]
    )


@mutant
def paths_count_items_from_one(patch: pytest.MonkeyPatch) -> None:
    def climb(self: Any, row: int, steps: list[Any]) -> int:
        which = right(self, row, steps)
        steps[-1] = steps[-1]._replace(key=steps[-1].key + 1)
        return which

    right = places.ItemsPlace.climb
    patch.setattr(places.ItemsPlace, "climb", climb)


@mutant
def paths_forget_that_rows_were_chosen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(places.SomePlace, "climb", lambda _self, row, _steps: row)


@mutant
def items_are_always_nullable_in_paths(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        places.Step, "__new__", lambda cls, key, order, _nullable, name: tuple.__new__(cls, (key, order, True, name))
    )


@mutant
def the_variant_of_a_plan_is_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plans, "_deciding", lambda _executor: set())


@mutant
def arguments_are_kept_although_variables_are_in_them(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(arguments, "_passed", lambda *_: None)
    patch.setattr(arguments, "_has_variables", lambda _value: False)


@mutant
def an_argument_that_is_passed_on_keeps_its_first_value(patch: pytest.MonkeyPatch) -> None:
    def with_passed(self: Any, constant: dict[str, Any], variables: Any) -> Any:
        values = right(self, constant, variables)
        return values and {name: constant.setdefault(name, value) for name, value in values.items()}

    right = arguments.Arguments._with_passed
    patch.setattr(arguments.Arguments, "_with_passed", with_passed)


@mutant
def arguments_are_those_of_the_first_request_when_inputs_are_in_them(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(arguments, "_passed", lambda *_: None)
    patch.setattr(arguments, "_has_variables", lambda _value: False)
    patch.setattr(arguments, "shareable", lambda _arguments: True)


@mutant
def is_type_of_is_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(objects.Objects, "_verdicts", lambda _self, _run, _values, rows, _place: [True] * len(rows))


@mutant
def the_class_of_a_record_does_not_matter(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(objects.Objects, "_expects", lambda _self, kind: is_plain(kind))


@mutant
def all_objects_are_of_the_type_of_the_first(patch: pytest.MonkeyPatch) -> None:
    def named(self: Any, run: Any, values: Any, names: dict[int, Any], place: Any, lost: set[int]) -> Any:
        return right(self, run, values, dict.fromkeys(names, next(iter(names.values()), None)), place, lost)

    right = objects.Abstracts._named
    patch.setattr(objects.Abstracts, "_named", named)


@mutant
def errors_that_are_returned_are_nulls(patch: pytest.MonkeyPatch) -> None:
    def usable(self: Any, run: Any, values: list[Any], place: Any) -> Any:
        return right(self, run, [None if isinstance(each, Exception) else each for each in values], place)

    right = completion.Completion.usable
    patch.setattr(completion.Completion, "usable", usable)


@mutant
def parts_are_put_together_backwards(patch: pytest.MonkeyPatch) -> None:
    def backwards(count: int, parts: Any, lost: set[int]) -> Column:
        return scattered(count, [(rows, Column(part.values[::-1], part.lost)) for rows, part in parts], lost)

    patch.setattr(objects, "scattered", backwards)


@mutant
def waves_do_not_say_which_rows_they_are(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(waves, "SomePlace", lambda place, _rows: place)


@mutant
def a_guard_is_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(resolvers, "_guarded", lambda _field, _guard, resolve: resolve)


@mutant
def a_batch_is_given_to_the_wrong_parents(patch: pytest.MonkeyPatch) -> None:
    right = resolvers.checked_results
    patch.setattr(resolvers, "checked_results", lambda results, count, name: right(results, count, name)[::-1])


@mutant
def only_the_first_of_merged_fields_counts(patch: pytest.MonkeyPatch) -> None:
    right = plan.collect_subfields
    patch.setattr(plan, "collect_subfields", lambda *given: right(*given[:5], given[5][:1], *given[6:]))


@mutant
def keys_come_in_another_order(patch: pytest.MonkeyPatch) -> None:
    right = plan.kernels.dicts
    patch.setattr(plan.kernels, "dicts", lambda keys: lambda columns, count: right(keys[::-1])(columns[::-1], count))


@mutant
def a_list_ends_with_the_first_error_of_its_stream(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lists.Lists, "_lost_alone", lambda _self: Column([[]]))


@mutant
def booleans_may_be_anything(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(leaves._SPECIFIED, GraphQLBoolean, lambda values: values)


@mutant
def scalars_may_come_to_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leaves, "_NOTHING", frozenset())


@mutant
def what_is_read_straight_is_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leaves.Leaves, "straight", lambda _self, _run, values: values)


@mutant
def the_first_object_of_a_level_weighs_nothing(patch: pytest.MonkeyPatch) -> None:
    def execute(self: Any, run: Any, objects: Any, place: Any) -> Any:
        run.weight -= 1.0
        return right(self, run, objects, place)

    right = plan.Selection.execute
    patch.setattr(plan.Selection, "execute", execute)


@mutant
def a_known_operation_keeps_its_first_variables(patch: pytest.MonkeyPatch) -> None:
    def values(self: Any, given: Any) -> Any:
        found = right(self, given)
        kept.setdefault(self, found)
        return kept[self] if found else None

    kept: dict[Any, Any] = {}
    right = operation._Known._values
    patch.setattr(operation._Known, "_values", values)


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    return synthetic.schema()


@pytest.mark.parametrize("name", MUTANTS)
def test_the_fuzzer_notices(name: str, schema: GraphQLSchema, monkeypatch: pytest.MonkeyPatch) -> None:
    schema.extensions.clear()  # of the plans that were made before the bug was planted
    MUTANTS[name](monkeypatch)
    with pytest.raises(AssertionError):
        look_for_differences(schema)


def test_the_fuzzer_has_nothing_to_notice_where_nothing_is_planted(schema: GraphQLSchema) -> None:
    schema.extensions.clear()
    look_for_differences(schema)


def look_for_differences(schema: GraphQLSchema) -> None:
    fuzz(schema, "at_once", 7, 300)
    fuzz(schema, "with_waiting", 7, 400)
    fuzz_menagerie("sync", 7, 400)
