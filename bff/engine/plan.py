"""Plans: what an operation does, decided once for its document and not again for each request.

A plan is a tree of selections and fields. Selections below the root are planned when the first object of their type is
there, because interfaces and unions have more of them than are ever needed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeAlias

from graphql import (
    FieldNode,
    GraphQLField,
    GraphQLObjectType,
    GraphQLOutputType,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)
from graphql.execution.collect_fields import FieldDetails, GroupedFieldSet, collect_fields, collect_subfields

from bff.engine import kernels
from bff.engine.columns import Column, all_lost
from bff.engine.completion import Completion
from bff.engine.leaves import Leaves
from bff.engine.lists import Lists
from bff.engine.objects import Abstracts, Objects
from bff.engine.pending import Pending, close, stepwise, together
from bff.engine.places import ROOT, FieldPlace, Place
from bff.engine.resolvers import Resolve, reader_of, resolver_of
from bff.engine.run import Run

Wrap: TypeAlias = Callable[["Field", Resolve], Resolve]
"""Made round the resolving of each field of a plan when it is made: see `BreadthExecutor.wrap`."""
Weigh: TypeAlias = Callable[["Selection"], float]
"""What each object of a selection weighs, asked once when it is planned: see `BreadthExecutor.weigh`."""


class Field:
    """One field of a selection, with all places in the document that ask for it.

    Attributes:
        key: its name in the response.
        name: its name in the schema.
        order: its index among the fields of its selection.
        nullable: whether null may be its value.
        is_straight: whether its values are attributes, and all that is asked of them as well, as far as it is planned.
        full_name: `Type.name`, as messages have it.
    """

    __slots__ = (
        "_completion", "_read", "_resolve", "_selections", "above", "definition", "details", "full_name",
        "is_straight", "key", "name", "nodes", "nullable", "order", "parent_type",
    )  # fmt: skip

    def __init__(
        self,
        run: Run,
        above: Selection,
        parent_type: GraphQLObjectType,
        definition: GraphQLField,
        key: str,
        order: int,
        details: list[FieldDetails],
    ) -> None:
        self.above = above
        self.key = key
        self.name = details[0].node.name.value
        self.full_name = f"{parent_type.name}.{self.name}"
        self.order = order
        self.parent_type = parent_type
        self.definition = definition
        self.details = details
        self.nodes: list[FieldNode] = [each.node for each in details]
        self.nullable = not is_non_null_type(definition.type)
        self._selections: dict[GraphQLObjectType, Selection] = {}
        self._completion = _completion(definition.type, self)
        resolve = resolver_of(run, self)
        wrap = run.kind.wrap
        self._resolve = wrap(self, resolve) if wrap else resolve
        self._read = None if wrap else reader_of(run, self)
        self.is_straight = self._read is not None

    def straight(self, run: Run, objects: list[Any]) -> list[Any] | None:
        """The field of all these objects, where it and all below it are attributes and as their types say.

        It is what most fields are, and costs nothing but the reading. None where anything else is found: then nothing
        has been done yet.
        """
        if self._read is None:
            return None
        try:
            return self._completion.straight(run, self._read(objects))
        except Exception:  # noqa: BLE001 - `column` finds out which object it is, and reports it
            return None

    def column(self, run: Run, objects: list[Any], above: Place) -> Column | Pending[Column]:
        """The field of all these objects, which are the rows of `above`."""
        place = FieldPlace(above, self)
        values = self._resolve(run, objects, place)
        if isinstance(values, Pending):
            return values.then(lambda values: self._completion.complete(run, values, place))
        return self._completion.complete(run, values, place)

    def planned(self, type_: GraphQLObjectType) -> Selection | None:
        """What `selection` has given before."""
        return self._selections.get(type_)

    def selection(self, run: Run, type_: GraphQLObjectType) -> Selection:
        """What is asked of the objects of one type that the field leads to.

        Raises:
            GraphQLError: a directive in it has no value.
        """
        selection = self._selections.get(type_)
        if selection is None:
            executor = run.executor
            collected = collect_subfields(
                executor.schema,
                executor.fragments,
                executor.variable_values,
                executor.operation,
                type_,
                self.details,
                executor.hide_suggestions,
            )
            selection = self._selections[type_] = Selection(run, type_, collected.grouped_field_set, self)
            if not selection.is_straight:
                self.bend()
        return selection

    def bend(self) -> None:
        """What is below is not straight, so neither is this, nor what it is in: none of it is to be tried in vain."""
        if self.is_straight:
            self.is_straight = self.above.is_straight = False
            if self.above.field:
                self.above.field.bend()


class Selection:
    """The fields asked of objects of one type.

    Attributes:
        field: that leads to the objects; None at the root.
        fields: in the order of the response.
        is_straight: whether all of them are.
    """

    __slots__ = ("_rows", "_weight", "field", "fields", "is_straight")

    def __init__(
        self, run: Run, type_: GraphQLObjectType, grouped: GroupedFieldSet, field: Field | None = None
    ) -> None:
        schema = run.schema
        self.field = field
        self.fields: list[Field] = []
        for key, details in grouped.items():
            definition = schema.get_field(type_, details[0].node.name.value)
            if definition is not None:  # only validation would refuse one that is not there
                self.fields.append(Field(run, self, type_, definition, key, len(self.fields), details))
        self.is_straight = all(each.is_straight for each in self.fields)
        keys = tuple(each.key for each in self.fields)
        self._rows = kernels.structs(keys) if field and run.kind.packed else kernels.dicts(keys)
        self._weight = run.kind.weigh(self) if run.kind.weigh else 0.0

    def execute(self, run: Run, objects: list[Any], place: Place) -> Column | Pending[Column]:
        """One row for each object, all fields side by side; not a field more once no object is left to have it."""
        count = len(objects)
        if not count:
            return Column([])
        rows = self.straight(run, objects) if self.is_straight else None
        if rows is not None:
            return Column(rows)
        run.weight += self._weight * count
        columns: list[Column | Pending[Column]] = []
        waiting: list[int] = []
        for field in self.fields:
            values = field.straight(run, objects) if field.is_straight else None
            column = field.column(run, objects, place) if values is None else Column(values)
            if type(column) is Pending:
                waiting.append(len(columns))
            elif column.lost and column.all_lost:  # type: ignore[union-attr]
                close(columns)
                return all_lost(count)
            columns.append(column)
        if not waiting:
            return self._assembled(columns, count)  # type: ignore[arg-type]
        if len(waiting) == 1:
            return self._completed(columns, waiting[0], count)
        done: Pending[list[Any] | None] = Pending(lambda: together(columns, enough=_all_lost), columns)
        return done.then(lambda columns: self._assembled(columns, count))

    def _completed(self, columns: list[Any], at: int, count: int) -> Pending[Column]:
        """The rows, where one of the columns is to come."""

        def complete(column: Column) -> Column:
            columns[at] = column
            return self._assembled(columns, count)

        last: Pending[Column] = columns[at]
        return last.then(complete)

    def straight(self, run: Run, objects: list[Any]) -> list[Any] | None:
        """The rows of these objects, if all of their fields are straight."""
        weight = run.weight
        columns: list[list[Any]] = []
        for field in self.fields:
            values = field.straight(run, objects)
            if values is None:
                run.weight = weight
                return None
            columns.append(values)
        run.weight += self._weight * len(objects)
        return self._rows(columns, len(objects))

    def execute_serially(self, run: Run, source: Any) -> Column | Pending[Column]:
        """The only row of a mutation: a field begins when the one before it has ended with all that follows from it."""
        return stepwise(self._one_after_the_other(run, source))

    def _one_after_the_other(self, run: Run, source: Any) -> Generator[Pending[Column], Column, Column]:
        run.weight += self._weight
        columns: list[Column] = []
        for field in self.fields:
            column = field.column(run, [source], ROOT)
            if isinstance(column, Pending):
                column = yield column
            if column.lost:
                return all_lost(1)
            columns.append(column)
        return self._assembled(columns, 1)

    def _assembled(self, columns: list[Column] | None, count: int) -> Column:
        if columns is None:
            return all_lost(count)
        lost: set[int] | None = None
        values: list[list[Any]] = []
        for column in columns:
            values.append(column.values)
            if column.lost:
                lost = (lost or set()) | column.lost
        return Column(self._rows(values, count), lost)


def _all_lost(column: Column) -> bool:
    return bool(column.lost) and column.all_lost


def root_selection(run: Run, root_type: GraphQLObjectType) -> Selection:
    """The plan of the operation, from its root.

    Raises:
        GraphQLError: a directive in it has no value.
    """
    executor = run.executor
    collected = collect_fields(
        executor.schema,
        executor.fragments,
        executor.variable_values,
        root_type,
        executor.operation,
        executor.hide_suggestions,
    )
    return Selection(run, root_type, collected.grouped_field_set)


def _completion(type_: GraphQLOutputType, field: Field, *, required: bool = False) -> Completion:
    if is_non_null_type(type_):
        return _completion(type_.of_type, field, required=True)
    if is_list_type(type_):
        return Lists(_completion(type_.of_type, field), field, required=required)
    if is_leaf_type(type_):
        return Leaves(type_, field, required=required)
    if is_object_type(type_):
        return Objects(type_, field, required=required)
    return Abstracts(type_, field, required=required)  # type: ignore[arg-type]
