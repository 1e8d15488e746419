"""Completing columns: from what resolvers gave to what the answer holds, for all objects of a level together.

A completed column is its values and, where there are any, the rows in which a null stands that the type forbids: those
have to become null in the column above. Nothing that is finished is ever changed.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Sequence
from itertools import chain
from typing import Any

from graphql import (
    GraphQLAbstractType,
    GraphQLEnumType,
    GraphQLError,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLScalarType,
    Undefined,
    is_abstract_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)

from bff.breadth.leaves import check_of
from bff.breadth.places import Fields, Items, Places, Some
from bff.breadth.plan import FieldPlan, Selection
from bff.breadth.run import Completed, Run

RECORD = "engine.record"
"""In an object type's extensions: the class of its source objects, which then needs no other proof of what they are."""

Bad = frozenset[int]
NONE_BAD: Bad = frozenset()


class Completer(ABC):
    """Completes columns of one type, in one field.

    Attributes:
        immediate: `complete` without a coroutine, where nothing ever has to be waited for.
    """

    immediate: Callable[[Run, list[Any], Places], Completed] | None = None

    def __init__(self, field: FieldPlan, *, nullable: bool) -> None:
        self.field = field
        self.nullable = nullable

    @abstractmethod
    async def complete(self, run: Run, values: list[Any], places: Places) -> Completed:
        """The completed column."""

    def failed(self, run: Run, row: int, places: Places, error: Exception) -> None:
        run.fail(error, places.steps(row), self.field)

    def usable(self, run: Run, values: Sequence[Any], places: Places) -> tuple[list[int], Bad]:
        """The rows that have a value, and those whose null the type forbids; errors are noted."""
        good: list[int] = []
        for row, value in enumerate(values):
            if isinstance(value, BaseException):
                self.failed(run, row, places, _as_exception(value))
            elif value is None or value is Undefined:
                if not self.nullable:
                    self.failed(run, row, places, _null_error(self.field))
            else:
                good.append(row)
        if self.nullable or len(good) == len(values):
            return good, NONE_BAD
        return good, frozenset(range(len(values))).difference(good)


class Leaf(Completer):
    def __init__(self, field: FieldPlan, leaf: GraphQLScalarType | GraphQLEnumType, *, nullable: bool) -> None:
        super().__init__(field, nullable=nullable)
        self.coerce = leaf.coerce_output_value
        self.check = check_of(leaf, nullable=nullable)
        self.name = leaf.name
        self.immediate = self._complete

    async def complete(self, run: Run, values: list[Any], places: Places) -> Completed:
        return self._complete(run, values, places)

    def _complete(self, run: Run, values: list[Any], places: Places) -> Completed:
        checked = self.check(values)
        return (checked, NONE_BAD) if checked is not None else self._one_by_one(run, values, places)

    def _one_by_one(self, run: Run, values: list[Any], places: Places) -> Completed:
        good, bad = self.usable(run, values, places)
        completed: list[Any] = [None] * len(values)
        for row in good:
            try:
                completed[row] = self._coerced(values[row])
            except Exception as error:  # noqa: BLE001 - whatever a scalar raises is this value's error
                self.failed(run, row, places, error)
                bad = bad if self.nullable else bad | {row}
        return completed, bad

    def _coerced(self, value: Any) -> Any:
        coerced = self.coerce(value)
        if coerced is None or coerced is Undefined:
            raise TypeError(f"{self.name} made nothing of a value")
        return coerced


class Object(Completer):
    def __init__(self, field: FieldPlan, object_type: GraphQLObjectType, *, nullable: bool) -> None:
        super().__init__(field, nullable=nullable)
        self.type = object_type
        self.record = object_type.extensions.get(RECORD)

    async def complete(self, run: Run, values: list[Any], places: Places) -> Completed:
        good, bad = await self._rightful(run, values, places)
        if not good:
            return [None] * len(values), bad
        selection = self.field.selection(run.executor, self.type)
        if len(good) == len(values):
            rows, below = await select(run, selection, values, places)
            return self._settled(rows, below)
        rows, below = await select(run, selection, [values[row] for row in good], Some(places, good))
        completed, below = self._settled(rows, below)
        return scattered(len(values), good, completed), bad | {good[row] for row in below}

    def _settled(self, rows: list[Any], below: Bad) -> Completed:
        """A row below which a null is forbidden becomes null itself, or hands it on."""
        if below:
            rows = [None if row in below else value for row, value in enumerate(rows)]
        return rows, (NONE_BAD if self.nullable else below)

    async def _rightful(self, run: Run, values: list[Any], places: Places) -> tuple[Sequence[int], Bad]:
        """The rows whose value is one of this type."""
        if self.record is not None and {self.record}.issuperset(map(type, values)):
            return range(len(values)), NONE_BAD
        good, bad = self.usable(run, values, places)
        judge = self.type.is_type_of
        if judge is None or (self.record is not None and all(type(values[row]) is self.record for row in good)):
            return good, bad
        info = run.info(self.field, places, good[0]) if good else None
        verdicts = await each([_attempt(judge, values[row], info) for row in good])
        for row, verdict in zip(tuple(good), verdicts, strict=True):
            if isinstance(verdict, BaseException) or not verdict:
                wrong = GraphQLError(f"Expected value of type '{self.type.name}' but got something else.")
                self.failed(run, row, places, _as_exception(verdict) if isinstance(verdict, BaseException) else wrong)
                good.remove(row)
                bad = bad if self.nullable else bad | {row}
        return good, bad


class Abstract(Completer):
    def __init__(self, field: FieldPlan, abstract_type: GraphQLAbstractType, *, nullable: bool) -> None:
        super().__init__(field, nullable=nullable)
        self.type = abstract_type
        self.concrete: dict[GraphQLObjectType, Object] = {}

    async def complete(self, run: Run, values: list[Any], places: Places) -> Completed:
        good, bad = self.usable(run, values, places)
        by_type: dict[GraphQLObjectType, list[int]] = {}
        for row, found in zip(good, await self._types(run, [values[row] for row in good], places, good), strict=True):
            if isinstance(found, Exception):
                self.failed(run, row, places, found)
                bad = bad if self.nullable else bad | {row}
            else:
                by_type.setdefault(found, []).append(row)
        parts = await each(
            [
                self._of(object_type).complete(run, [values[row] for row in rows], Some(places, rows))
                for object_type, rows in by_type.items()
            ]
        )
        completed: list[Any] = [None] * len(values)
        for rows, part in zip(by_type.values(), parts, strict=True):
            column, below = raised(part)
            for row, value in zip(rows, column, strict=True):
                completed[row] = value
            bad |= {rows[row] for row in below}
        return completed, bad

    def _of(self, object_type: GraphQLObjectType) -> Object:
        if object_type not in self.concrete:
            self.concrete[object_type] = Object(self.field, object_type, nullable=self.nullable)
        return self.concrete[object_type]

    async def _types(
        self, run: Run, values: list[Any], places: Places, rows: Sequence[int]
    ) -> list[GraphQLObjectType | Exception]:
        if not values:
            return []
        info = run.info(self.field, places, rows[0])
        resolve = self.type.resolve_type or run.executor.type_resolver
        names = await each([_attempt(resolve, value, info, self.type) for value in values])
        return [
            self._valid(run, info, name, value) if not isinstance(name, BaseException) else _as_exception(name)
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

    async def complete(self, run: Run, values: list[Any], places: Places) -> Completed:
        if {list}.issuperset(map(type, values)):
            return await self._of_lists(run, values, places)
        good, bad = self.usable(run, values, places)
        lists: list[list[Any]] = []
        kept: list[int] = []
        for row in good:
            try:
                lists.append(await self._items(values[row]))
                kept.append(row)
            except Exception as error:  # noqa: BLE001 - an iterator may raise anything, and it is this value's error
                self.failed(run, row, places, error)
                bad = bad if self.nullable else bad | {row}
        completed, below = await self._of_lists(run, lists, Some(places, kept))
        return scattered(len(values), kept, completed), bad | {kept[row] for row in below}

    async def _of_lists(self, run: Run, lists: list[list[Any]], places: Places) -> Completed:
        lengths = [len(each) for each in lists]
        flat = lists[0] if len(lists) == 1 else list(chain.from_iterable(lists))
        completed, bad = await self.item.complete(run, flat, Items(places, lengths, self.item.nullable))
        if len(lists) == 1:
            return ([None], NONE_BAD if self.nullable else frozenset({0})) if bad else ([completed], NONE_BAD)
        columns: list[Any] = []
        outer: set[int] = set()
        start = 0
        for row, length in enumerate(lengths):
            end = start + length
            if bad and any(start <= each < end for each in bad):
                columns.append(None)
                outer.add(row)
            else:
                columns.append(completed[start:end])
            start = end
        return columns, (NONE_BAD if self.nullable else frozenset(outer))

    async def _items(self, value: Any) -> list[Any]:
        if isinstance(value, AsyncIterable):
            return [item async for item in value]
        if not isinstance(value, Iterable) or isinstance(value, str | bytes | dict):
            name = f"{self.field.parent.name}.{self.field.name}"
            raise GraphQLError(f"Expected Iterable, but did not find one for field '{name}'.")
        return list(value)


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


async def select(run: Run, selection: Selection, sources: list[Any], places: Places) -> Completed:
    """One row for each source object; fields that wait do so together."""
    columns: list[list[Any]] = []
    bad: Bad = NONE_BAD
    waiting: list[tuple[int, Coroutine[Any, Any, Completed]]] = []
    for at, field in enumerate(selection.fields):
        outcome = run.resolve(field, sources, Fields(places, field.step))
        if isinstance(outcome, tuple):
            columns.append(outcome[0])
            bad |= outcome[1]
        else:
            columns.append([])
            waiting.append((at, outcome))
    completed = await each([coroutine for _, coroutine in waiting])
    for (at, _), column in zip(waiting, completed, strict=True):
        columns[at], below = raised(column)
        bad |= below
    return selection.rows(columns, len(sources)), bad


async def select_serially(run: Run, selection: Selection, source: Any, places: Places) -> Completed:
    """The fields of a mutation, each after the one before has ended; none after a null that reaches the root."""
    columns: list[list[Any]] = []
    for field in selection.fields:
        outcome = run.resolve(field, [source], Fields(places, field.step))
        column, bad = outcome if isinstance(outcome, tuple) else await outcome
        if bad:
            return [None], bad
        columns.append(column)
    return selection.rows(columns, 1), NONE_BAD


async def each(values: Sequence[Any]) -> list[Any]:
    """All values, in their order: those that can be awaited are, together; what they raise is their value."""
    waiting = [at for at, value in enumerate(values) if isinstance(value, Awaitable)]
    if not waiting:
        return list(values)
    outcomes = list(values)
    if len(waiting) == 1:
        try:
            outcomes[waiting[0]] = await values[waiting[0]]
        except Exception as error:  # noqa: BLE001 - it is the value
            outcomes[waiting[0]] = error
        return outcomes
    for at, outcome in zip(
        waiting, await asyncio.gather(*(values[at] for at in waiting), return_exceptions=True), strict=True
    ):
        outcomes[at] = outcome
    return outcomes


def raised(outcome: Completed | BaseException) -> Completed:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def scattered(count: int, rows: Sequence[int], values: Sequence[Any]) -> list[Any]:
    completed: list[Any] = [None] * count
    for row, value in zip(rows, values, strict=True):
        completed[row] = value
    return completed


def _attempt(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 - it is the value
        return error


def _as_exception(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError("cancelled")


def _null_error(field: FieldPlan) -> TypeError:
    return TypeError(f"Cannot return null for non-nullable field {field.parent.name}.{field.name}.")
