"""Objects, and interfaces and unions of them: their fields are executed once for all objects of one type."""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Any

from graphql import GraphQLAbstractType, GraphQLError, GraphQLObjectType, GraphQLSchema
from graphql.execution.executor import invalid_return_type_error

from bff.engine.columns import Column, nulled, scattered
from bff.engine.completion import Completion
from bff.engine.pending import Pending, all_of, then
from bff.engine.places import Place, SomePlace
from bff.engine.run import GUARD, Guard, Run
from bff.engine.values import is_plain
from bff.engine.waves import in_waves, settled

if TYPE_CHECKING:
    from bff.engine.plan import Field

RECORD = "engine.record"
"""The key in `GraphQLObjectType.extensions` of the class whose instances are the objects of that type. It answers for
`is_type_of` and `resolve_type`, once for each class that turns up instead of once for each object."""


class Objects(Completion):
    """Objects of one type."""

    __slots__ = ("_expected", "_is_type_of", "_others", "_record", "_type")

    def __init__(self, type_: GraphQLObjectType, field: Field, *, required: bool) -> None:
        super().__init__(field, required=required)
        self._type = type_
        self._record: type = type_.extensions.get(RECORD, object)
        # As many as the field's resolvers return.
        self._expected: set[type] = set()
        self._others: set[type] = set()
        self._is_type_of = None if RECORD in type_.extensions else type_.is_type_of

    def straight(self, run: Run, values: list[Any]) -> list[Any] | None:
        selection = self.field.planned(self._type)
        if selection is None or not selection.is_straight or self._is_type_of is not None:
            return None
        kinds = set(map(type, values))
        if self._expects_all(kinds):
            return selection.straight(run, values)
        if self.required or not self._expects_all(kinds - {NoneType}):
            return None
        rows = selection.straight(run, [each for each in values if each is not None])
        if rows is None:
            return None
        following = iter(rows)
        return [None if each is None else next(following) for each in values]

    def complete(self, run: Run, values: list[Any], place: Place) -> Column | Pending[Column]:
        return self._directly(run, values, place) or in_waves(run, values, place, self._arrived)

    def _arrived(self, run: Run, values: list[Any], place: Place) -> Column | Pending[Column]:
        return self._directly(run, values, place) or self._sorted_out(run, values, place)

    def _directly(self, run: Run, values: list[Any], place: Place) -> Column | Pending[Column] | None:
        """The column, where the classes of the values say that nothing has to be sorted out."""
        if self._is_type_of is not None:
            return None
        kinds = set(map(type, values))
        if self._expects_all(kinds):
            return self._selected(run, values, place)
        if self.required or not self._expects_all(kinds - {NoneType}):
            return None
        rows = [row for row, value in enumerate(values) if value is not None]
        return self._selected_in(run, values, rows, place, set())

    def _expects_all(self, kinds: set[type]) -> bool:
        if kinds <= self._expected:
            return True
        if not self._others.isdisjoint(kinds):
            return False
        for kind in kinds:
            (self._expected if self._expects(kind) else self._others).add(kind)
        return kinds <= self._expected

    def _expects(self, kind: type) -> bool:
        return is_plain(kind) and issubclass(kind, self._record)

    def _selected(self, run: Run, objects: list[Any], place: Place) -> Column | Pending[Column]:
        try:
            column = self.field.selection(run, self._type).execute(run, objects, place)
        except (GraphQLError, RecursionError) as error:  # no value for a directive, or nested too deeply
            return self.failed(run, error, objects, place)
        return column if self.required else then(column, nulled)

    def failed(self, run: Run, error: Exception, objects: list[Any], place: Place) -> Column:
        """The column where each object has this error instead."""
        lost: set[int] = set()
        for row in range(len(objects)):
            self.fail(run, place, row, error, lost)
        return Column([None] * len(objects), lost)

    def _sorted_out(self, run: Run, values: list[Any], place: Place) -> Column | Pending[Column]:
        rows, lost = self.usable(run, values, place)
        return then(
            self._verdicts(run, values, rows, place),
            lambda verdicts: self._judged(run, values, dict(zip(rows, verdicts, strict=True)), place, lost),
        )

    def _verdicts(self, run: Run, values: list[Any], rows: list[int], place: Place) -> list[Any] | Pending[list[Any]]:
        """For each of the rows whether its object is of the type, or the error that came of asking."""
        is_type_of = self._is_type_of
        if is_type_of is None:
            return [isinstance(values[row], self._record) for row in rows]
        info = run.infos(self.field, place)
        verdicts: list[Any] = []
        for row in rows:
            try:
                verdicts.append(is_type_of(values[row], info(row)))
            except Exception as error:  # noqa: BLE001 - the error of this object alone
                verdicts.append(error)
        return settled(run, verdicts)

    def _judged(
        self, run: Run, values: list[Any], verdicts: dict[int, Any], place: Place, lost: set[int]
    ) -> Column | Pending[Column]:
        rows: list[int] = []
        for row, verdict in verdicts.items():
            if isinstance(verdict, BaseException):
                self.fail(run, place, row, verdict, lost)
            elif not verdict:
                self.fail(run, place, row, invalid_return_type_error(self._type, values[row], self.field.details), lost)
            else:
                rows.append(row)
        return self._selected_in(run, values, rows, place, lost)

    def _selected_in(
        self, run: Run, values: list[Any], rows: list[int], place: Place, lost: set[int]
    ) -> Column | Pending[Column]:
        """The column where only these rows have an object."""
        if len(rows) == len(values):
            return self._selected(run, values, place)
        part = self._selected(run, [values[row] for row in rows], SomePlace(place, rows))
        return then(part, lambda part: scattered(len(values), [(rows, part)], lost))


class Abstracts(Completion):
    """Objects of several types, those that an interface or union stands for."""

    __slots__ = ("_objects", "_type", "_types_by_class")

    def __init__(self, type_: GraphQLAbstractType, field: Field, *, required: bool) -> None:
        super().__init__(field, required=required)
        self._type = type_
        self._types_by_class: dict[type, GraphQLObjectType | None] = {}  # as many as the field's resolvers return
        self._objects: dict[GraphQLObjectType, Objects] = {}

    def complete(self, run: Run, values: list[Any], place: Place) -> Column | Pending[Column]:
        schema = run.schema
        types = {kind: self._type_by_class(schema, kind) for kind in set(map(type, values))}
        known = {kind: type_ for kind, type_ in types.items() if type_ is not None}
        if len(known) < len(types):
            return in_waves(run, values, place, self._sorted_out)
        if len(set(known.values())) == 1:
            return self._of_type(run, next(iter(known.values())), values, place)
        return self._grouped(run, values, {row: known[type(value)] for row, value in enumerate(values)}, place, set())

    def _type_by_class(self, schema: GraphQLSchema, kind: type) -> GraphQLObjectType | None:
        """The type whose record the class is; None if only the object can tell."""
        types = self._types_by_class
        if kind not in types:
            candidates = schema.get_possible_types(self._type) if is_plain(kind) else ()
            types[kind] = next((each for each in candidates if issubclass(kind, each.extensions.get(RECORD, ()))), None)
        return types[kind]

    def _of_type(self, run: Run, type_: GraphQLObjectType, values: list[Any], place: Place) -> Column | Pending[Column]:
        """Complete objects that turned out to be of this type, unless its guard refuses them."""
        guard: Guard | None = type_.extensions.get(GUARD)
        refusal = run.refusal(self.field, guard, place) if guard else None
        completion = self._completion(type_)
        if refusal is not None:
            return completion.failed(run, refusal, values, place)
        return completion.complete(run, values, place)

    def _completion(self, type_: GraphQLObjectType) -> Objects:
        if type_ not in self._objects:
            self._objects[type_] = Objects(type_, self.field, required=self.required)
        return self._objects[type_]

    def _sorted_out(self, run: Run, values: list[Any], place: Place) -> Column | Pending[Column]:
        rows, lost = self.usable(run, values, place)
        resolve_type = self._type.resolve_type or run.executor.type_resolver
        info = run.infos(self.field, place)
        names: list[Any] = []
        for row in rows:
            known = self._type_by_class(run.schema, type(values[row]))
            try:
                names.append(known.name if known else resolve_type(values[row], info(row), self._type))
            except Exception as error:  # noqa: BLE001 - the error of this object alone
                names.append(error)
        return then(
            settled(run, names),
            lambda names: self._named(run, values, dict(zip(rows, names, strict=True)), place, lost),
        )

    def _named(
        self, run: Run, values: list[Any], names: dict[int, Any], place: Place, lost: set[int]
    ) -> Column | Pending[Column]:
        types: dict[int, GraphQLObjectType] = {}
        info = run.infos(self.field, place)(0)
        for row, name in names.items():
            if isinstance(name, BaseException):
                self.fail(run, place, row, name, lost)
                continue
            try:
                types[row] = run.executor.ensure_valid_runtime_type(
                    name, self._type, self.field.details, info, values[row]
                )
            except Exception as error:  # noqa: BLE001 - its message says what is wrong with the name
                self.fail(run, place, row, error, lost)
        return self._grouped(run, values, types, place, lost)

    def _grouped(
        self, run: Run, values: list[Any], types: dict[int, GraphQLObjectType], place: Place, lost: set[int]
    ) -> Column | Pending[Column]:
        rows_by_type: dict[GraphQLObjectType, list[int]] = {}
        for row, type_ in types.items():
            rows_by_type.setdefault(type_, []).append(row)
        columns = [
            self._of_type(run, type_, [values[row] for row in rows], SomePlace(place, rows))
            for type_, rows in rows_by_type.items()
        ]
        return then(
            all_of(columns),
            lambda columns: scattered(len(values), zip(rows_by_type.values(), columns or (), strict=True), lost),
        )
