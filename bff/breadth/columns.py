"""Completing columns: from what resolvers gave to what the answer holds, for all objects of a level together.

A completed column is its values and, where there are any, the rows in which a null stands that the type forbids: those
have to become null in the column above. Nothing that is finished is ever changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain
from typing import Any

from graphql import (
    GraphQLAbstractType,
    GraphQLEnumType,
    GraphQLError,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLScalarType,
    is_abstract_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)
from graphql.execution.executor import invalid_return_type_error
from graphql.pyutils import is_iterable

from bff.breadth.kinds import as_exception, is_null, plain
from bff.breadth.leaves import check_of
from bff.breadth.places import Fields, Items, Places, Some
from bff.breadth.plan import FieldPlan, Selection
from bff.breadth.run import Completed, Run
from bff.breadth.waiting import Work, begin, together

RECORD = "engine.record"
"""In an object type's extensions: the class of its source objects, which then needs no other proof of what they are."""

Rows = frozenset[int]
NO_ROWS: Rows = frozenset()


class Completer(ABC):
    """Completes columns of one type, in one field."""

    def __init__(self, field: FieldPlan, *, nullable: bool) -> None:
        self.field = field
        self.nullable = nullable

    def start(self, run: Run, values: list[Any], places: Places) -> Completed | Work[Completed]:
        """`complete`, or its result where it is known at once."""
        return self.complete(run, values, places)

    def complete(self, run: Run, values: list[Any], places: Places) -> Work[Completed]:
        """The completed column of whatever resolvers return: awaitables, errors and nulls are looked after here."""
        if plain(values):
            completed, lost = yield from self.of_values(run, values, places)
            return completed, (NO_ROWS if self.nullable else lost)
        values = yield from settled(run, values)
        good = self._usable(run, values, places)
        part, below = yield from self.of_values(run, [values[row] for row in good], Some(places, good))
        completed = [None] * len(values)
        for row, value in zip(good, part, strict=True):
            completed[row] = value
        if self.nullable:
            return completed, NO_ROWS
        return completed, frozenset(range(len(values))).difference(good) | {good[row] for row in below}

    @abstractmethod
    def of_values(self, run: Run, values: list[Any], places: Places) -> Work[tuple[list[Any], Rows]]:
        """The completed column of proper values, and the rows of it that are null because of an error."""

    def spoils(self, value: Any) -> bool:
        """Whether it is plain already that this value leaves a null where none may be."""
        return not self.nullable and (is_null(value) or isinstance(value, BaseException))

    def _usable(self, run: Run, values: Sequence[Any], places: Places) -> list[int]:
        """The rows that have a value; errors are noted."""
        good: list[int] = []
        for row, value in enumerate(values):
            if isinstance(value, BaseException):
                run.fail(as_exception(value), places, row, self.field)
            elif not is_null(value):
                good.append(row)
            elif not self.nullable:
                run.fail(_null_error(self.field), places, row, self.field)
        return good


class Leaf(Completer):
    def __init__(self, field: FieldPlan, leaf: GraphQLScalarType | GraphQLEnumType, *, nullable: bool) -> None:
        super().__init__(field, nullable=nullable)
        self.type = leaf
        self.check = check_of(leaf, nullable=nullable)

    def start(self, run: Run, values: list[Any], places: Places) -> Completed | Work[Completed]:
        checked = self.check(values)
        return self.complete(run, values, places) if checked is None else (checked, NO_ROWS)

    def of_values(self, run: Run, values: list[Any], places: Places) -> Work[tuple[list[Any], Rows]]:
        checked = self.check(values)
        if checked is not None:
            return checked, NO_ROWS
        completed: list[Any] = [None] * len(values)
        lost: set[int] = set()
        for row, value in enumerate(values):
            try:
                completed[row] = run.executor.complete_leaf_value(self.type, value)
            except Exception as error:  # noqa: BLE001 - whatever a scalar raises is this value's error
                run.fail(error, places, row, self.field)
                lost.add(row)
        return completed, frozenset(lost)
        yield []  # never: leaves have nothing to wait for

    def spoils(self, value: Any) -> bool:
        if self.nullable or super().spoils(value):
            return not self.nullable
        try:
            return is_null(self.type.coerce_output_value(value))
        except Exception:  # noqa: BLE001 - it is reported when the value is completed
            return True


class Object(Completer):
    def __init__(self, field: FieldPlan, object_type: GraphQLObjectType, *, nullable: bool) -> None:
        super().__init__(field, nullable=nullable)
        self.type = object_type
        self.record = object_type.extensions.get(RECORD)

    def of_values(self, run: Run, values: list[Any], places: Places) -> Work[tuple[list[Any], Rows]]:
        if not values:
            return [], NO_ROWS
        try:
            selection = self.field.selection(run.executor, self.type)
        except GraphQLError as error:  # the variable of a @skip or @include is null
            return _all_lost(run, self.field, values, places, error)
        if self._are_records(values):
            return nulled(*(yield from select(run, selection, values, places)))
        good = yield from self._rightful(run, values, places)
        if len(good) == len(values):
            return nulled(*(yield from select(run, selection, values, places)))
        rows, below = yield from select(run, selection, [values[row] for row in good], Some(places, good))
        completed: list[Any] = [None] * len(values)
        for row, value in zip(good, rows, strict=True):
            completed[row] = value
        return nulled(completed, frozenset(range(len(values))).difference(good) | {good[row] for row in below})

    def _are_records(self, values: list[Any]) -> bool:
        return self.type.is_type_of is None or (self.record is not None and {self.record}.issuperset(map(type, values)))

    def _rightful(self, run: Run, values: list[Any], places: Places) -> Work[list[int]]:
        """The rows whose value is one of this type."""
        judge, info = self.type.is_type_of, run.info(self.field, places, 0)
        verdicts = yield from settled(run, [_attempt(judge, value, info) for value in values])
        good: list[int] = []
        for row, verdict in enumerate(verdicts):
            if isinstance(verdict, BaseException):
                run.fail(as_exception(verdict), places, row, self.field)
            elif not verdict:
                wrong = invalid_return_type_error(self.type, values[row], self.field.details)
                run.fail(wrong, places, row, self.field)
            else:
                good.append(row)
        return good


class Abstract(Completer):
    def __init__(self, field: FieldPlan, abstract_type: GraphQLAbstractType, *, nullable: bool) -> None:
        super().__init__(field, nullable=nullable)
        self.type = abstract_type
        self.concrete: dict[GraphQLObjectType, Object] = {}

    def of_values(self, run: Run, values: list[Any], places: Places) -> Work[tuple[list[Any], Rows]]:
        lost: set[int] = set()
        rows_by_type: dict[GraphQLObjectType, list[int]] = {}
        for row, found in enumerate((yield from self._types(run, values, places))):
            if isinstance(found, Exception):
                run.fail(found, places, row, self.field)
                lost.add(row)
            else:
                rows_by_type.setdefault(found, []).append(row)
        parts = yield from together(
            [
                begin(self._of(each).of_values(run, [values[row] for row in rows], Some(places, rows)))
                for each, rows in rows_by_type.items()
            ]
        )
        completed: list[Any] = [None] * len(values)
        for rows, (part, below) in zip(rows_by_type.values(), parts, strict=True):
            for row, value in zip(rows, part, strict=True):
                completed[row] = value
            lost.update(rows[row] for row in below)
        return completed, frozenset(lost)

    def _of(self, object_type: GraphQLObjectType) -> Object:
        if object_type not in self.concrete:
            self.concrete[object_type] = Object(self.field, object_type, nullable=self.nullable)
        return self.concrete[object_type]

    def _types(self, run: Run, values: list[Any], places: Places) -> Work[list[GraphQLObjectType | Exception]]:
        if not values:
            return []
        info = run.info(self.field, places, 0)
        resolve = self.type.resolve_type or run.executor.type_resolver
        names = yield from settled(run, [_attempt(resolve, value, info, self.type) for value in values])
        return [
            as_exception(name) if isinstance(name, BaseException) else self._valid(run, info, name, value)
            for name, value in zip(names, values, strict=True)
        ]

    def _valid(self, run: Run, info: Any, name: Any, value: Any) -> GraphQLObjectType | Exception:
        try:
            return run.executor.ensure_valid_runtime_type(name, self.type, self.field.details, info, value)
        except GraphQLError as error:
            return error


class List(Completer):
    def __init__(self, field: FieldPlan, item: Completer, *, nullable: bool) -> None:
        super().__init__(field, nullable=nullable)
        self.item = item

    def of_values(self, run: Run, values: list[Any], places: Places) -> Work[tuple[list[Any], Rows]]:
        if {list}.issuperset(map(type, values)):
            return (yield from self._of_lists(run, values, places))
        lists = yield from self._items(run, values)
        good = [row for row, items in enumerate(lists) if isinstance(items, list)]
        part, below = yield from self._of_lists(run, [lists[row] for row in good], Some(places, good))
        completed: list[Any] = [None] * len(values)
        lost = {good[row] for row in below}
        for row, value in zip(good, part, strict=True):
            completed[row] = value
        for row, items in enumerate(lists):
            if isinstance(items, Exception):
                run.fail(items, places, row, self.field)
                lost.add(row)
        return completed, frozenset(lost)

    def _of_lists(self, run: Run, lists: list[list[Any]], places: Places) -> Work[tuple[list[Any], Rows]]:
        lengths = list(map(len, lists))
        items = list(chain.from_iterable(lists))
        item_places = Items(places, lengths, nullable=self.item.nullable)
        begun = self.item.start(run, items, item_places)
        completed, bad = begun if isinstance(begun, tuple) else (yield from begun)
        columns: list[Any] = []
        lost: set[int] = set()
        start = 0
        for row, length in enumerate(lengths):
            end = start + length
            columns.append(completed[start:end])
            if bad and not bad.isdisjoint(range(start, end)):
                columns[row] = None
                lost.add(row)
            start = end
        return columns, frozenset(lost)

    def _items(self, run: Run, values: list[Any]) -> Work[list[Any]]:
        """The items of each value, or why it has none."""
        lists: list[Any] = []
        for value in values:
            if run.executor.is_async_iterable(value):
                lists.append(self._received(value))
            elif is_iterable(value):
                lists.append(_attempt(list, value))
            else:
                name = f"{self.field.parent.name}.{self.field.name}"
                lists.append(GraphQLError(f"Expected Iterable, but did not find one for field '{name}'."))
        return (yield from settled(run, lists))

    async def _received(self, iterable: Any) -> list[Any]:
        """The items up to one that makes the whole list null: there may be no end to them otherwise."""
        items: list[Any] = []
        iterator = aiter(iterable)
        try:
            async for item in iterator:
                items.append(item)
                if self.item.spoils(item):
                    break
        finally:
            if hasattr(iterator, "aclose"):
                await iterator.aclose()
        return items


def completer_of(field: FieldPlan, output: GraphQLOutputType, *, nullable: bool = True) -> Completer:
    if is_non_null_type(output):
        return completer_of(field, output.of_type, nullable=False)
    if is_list_type(output):
        return List(field, completer_of(field, output.of_type), nullable=nullable)
    if is_leaf_type(output):
        return Leaf(field, output, nullable=nullable)
    if is_abstract_type(output):
        return Abstract(field, output, nullable=nullable)
    assert is_object_type(output)  # noqa: S101 - there are no other types
    return Object(field, output, nullable=nullable)


def select(run: Run, selection: Selection, sources: list[Any], places: Places) -> Work[Completed]:
    """One row for each source object; fields that wait do so together."""
    begun = []
    for field in selection.fields:
        outcome = run.resolve(field, sources, Fields(places, field.step))
        begun.append(outcome if isinstance(outcome, tuple) else begin(outcome))
    completed = yield from together(begun)
    bad = NO_ROWS.union(*(below for _, below in completed if below))
    return selection.rows([values for values, _ in completed], len(sources)), bad


def select_serially(run: Run, selection: Selection, source: Any, places: Places) -> Work[Completed]:
    """The fields of a mutation, each after the one before has ended; none after a null that reaches the root."""
    columns: list[list[Any]] = []
    for field in selection.fields:
        outcome = run.resolve(field, [source], Fields(places, field.step))
        column, bad = outcome if isinstance(outcome, tuple) else (yield from outcome)
        if bad:
            return [None], bad
        columns.append(column)
    return selection.rows(columns, 1), NO_ROWS


def settled(run: Run, values: list[Any]) -> Work[list[Any]]:
    """The same values, those awaited that have to be; what they raise is their value."""
    waiting = [row for row, value in enumerate(values) if run.executor.is_awaitable(value)]
    if not waiting:
        return values
    outcomes = yield [values[row] for row in waiting]
    values = values.copy()
    for row, outcome in zip(waiting, outcomes, strict=True):
        values[row] = outcome
    return values


def nulled(values: list[Any], lost: Rows) -> tuple[list[Any], Rows]:
    """The column with nulls in its lost rows."""
    if lost:
        values = [None if row in lost else value for row, value in enumerate(values)]
    return values, lost


def _all_lost(
    run: Run, field: FieldPlan, values: list[Any], places: Places, error: Exception
) -> tuple[list[Any], Rows]:
    for row in range(len(values)):
        run.fail(error, places, row, field)
    return [None] * len(values), frozenset(range(len(values)))


def _attempt(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 - it is the value
        return error


def _null_error(field: FieldPlan) -> TypeError:
    return TypeError(f"Cannot return null for non-nullable field {field.parent.name}.{field.name}.")
