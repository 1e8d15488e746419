"""Leaves: whole columns serialized at once, where the column is what its type expects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from math import isfinite
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
from graphql import (
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLFloat,
    GraphQLID,
    GraphQLInt,
    GraphQLLeafType,
    GraphQLString,
    Undefined,
)
from graphql.execution import Executor

from bff.engine.columns import Column
from bff.engine.completion import Completion
from bff.engine.pending import Pending, then
from bff.engine.places import Place
from bff.engine.run import Run
from bff.engine.values import plain
from bff.engine.waves import settled

if TYPE_CHECKING:
    from bff.engine.plan import Field

Serialize: TypeAlias = Callable[[list[Any]], list[Any] | None]
"""The serialized column; None if it must be looked at value by value: something in it is unusual, such as a null."""

_NOTHING = frozenset({NoneType, type(Undefined)})


class _Integers(msgspec.Struct, gc=False):
    """In a struct, because msgspec makes up its mind about any other type again for each value."""

    items: list[Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]]


class Leaves(Completion):
    """Scalars and enums."""

    __slots__ = ("_serialize", "_type")

    def __init__(self, leaf: GraphQLLeafType, field: Field, *, required: bool) -> None:
        super().__init__(field, required=required)
        self._type = leaf
        self._serialize = serializer(leaf) if required else with_nulls(serializer(leaf))

    def straight(self, _run: Run, values: list[Any]) -> list[Any] | None:
        return self._serialize(values)

    def complete(self, run: Run, values: list[Any], place: Place) -> Column | Pending[Column]:
        serialized = self._serialize(values)
        if serialized is not None:
            return Column(serialized)
        return then(settled(run, values), lambda values: self._one_by_one(run, values, place))

    def _one_by_one(self, run: Run, values: list[Any], place: Place) -> Column:
        rows, lost = self.usable(run, values, place)
        column: list[Any] = [None] * len(values)
        for row in rows:
            try:
                column[row] = Executor.complete_leaf_value(self._type, values[row])
            except Exception as error:  # noqa: BLE001 - whatever a scalar raises is the error of its value
                self.fail(run, place, row, error, lost)
        return Column(column, lost)


def serializer(leaf: GraphQLLeafType) -> Serialize:
    """The fast way for columns of this type."""
    known = _SPECIFIED.get(leaf)
    if known is not None:
        return known
    if leaf.coerce_output_value is str:
        return _texts(leaf)
    # Strawberry's enum types know the class whose members resolvers return.
    members = getattr(leaf, "wrapped_cls", None)
    if isinstance(leaf, GraphQLEnumType) and isinstance(members, type) and issubclass(members, Enum):
        return _members(leaf, members)
    return _coerced(leaf)


def with_nulls(serialize: Serialize) -> Serialize:
    """The same for columns that may have nulls."""

    def serialize_others(values: list[Any]) -> list[Any] | None:
        serialized = serialize(values)
        if serialized is not None or NoneType not in set(map(type, values)):
            return serialized
        others = serialize([each for each in values if each is not None])
        if others is None:
            return None
        following = iter(others)
        return [None if each is None else next(following) for each in values]

    return serialize_others


def _strings(values: list[Any]) -> list[Any] | None:
    try:
        "".join(values)  # the cheapest way to see that all are
    except TypeError:
        return None
    return values


def _texts(leaf: GraphQLLeafType) -> Serialize:
    """Of scalars that are sent as their text, such as strawberry's Decimal: what is text already is as it is to be."""
    coerced = _coerced(leaf)
    return lambda values: coerced(values) if (strings := _strings(values)) is None else strings


def _booleans(values: list[Any]) -> list[Any] | None:
    return values if set(map(type, values)) <= {bool} else None


def _integers(values: list[Any]) -> list[Any] | None:
    try:
        return msgspec.convert({"items": values}, _Integers).items
    except msgspec.ValidationError:  # what is none, or has more than 32 bits
        return None


def _floats(values: list[Any]) -> list[Any] | None:
    # One that is infinite or not a number makes the sum so.
    return values if set(map(type, values)) <= {float} and isfinite(sum(values)) else None


_SPECIFIED: Mapping[object, Serialize] = {
    GraphQLString: _strings,
    GraphQLID: _strings,
    GraphQLBoolean: _booleans,
    GraphQLInt: _integers,
    GraphQLFloat: _floats,
}


def _members(leaf: GraphQLEnumType, members: type[Enum]) -> Serialize:
    # By identity, because an enum hashes in Python, and there is one object for each member.
    names = {id(member): leaf.coerce_output_value(member) for member in members}

    def serialize(values: list[Any]) -> list[Any] | None:
        try:
            return [names[id(each)] for each in values]
        except KeyError:
            return None

    return serialize


def _coerced(leaf: GraphQLLeafType) -> Serialize:
    coerce = leaf.coerce_output_value

    def serialize(values: list[Any]) -> list[Any] | None:
        if not plain(values):
            return None
        try:
            coerced = list(map(coerce, values))
        except Exception:  # noqa: BLE001 - the way value by value finds out which, and reports it
            return None
        return coerced if _NOTHING.isdisjoint(map(type, coerced)) else None

    return serialize
