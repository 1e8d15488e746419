"""Leaf values: a whole column is checked at the speed of C, and item by item only where something is unusual."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from enum import Enum
from math import isfinite
from types import NoneType
from typing import Any

from graphql import (
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLFloat,
    GraphQLID,
    GraphQLInt,
    GraphQLScalarType,
    GraphQLString,
)

from bff.breadth.kinds import is_null, plain

Check = Callable[[list[Any]], list[Any] | None]
"""The completed column, or None where it has to be looked at item by item."""

_INTS, _FLOATS = frozenset({int}), frozenset({float})
_EXACT = {"String": str, "ID": str, "Boolean": bool}
_BUILT_IN = (GraphQLString, GraphQLID, GraphQLBoolean, GraphQLInt, GraphQLFloat)


def check_of(leaf: GraphQLScalarType | GraphQLEnumType, *, nullable: bool) -> Check:
    if leaf is GraphQLInt:
        return _or_null(_ints) if nullable else _ints
    if leaf is GraphQLFloat:
        return _or_null(_floats) if nullable else _floats
    if any(leaf is each for each in _BUILT_IN):
        return _of_class(_EXACT[leaf.name], nullable=nullable)
    if isinstance(leaf, GraphQLEnumType):
        return _members(leaf, nullable=nullable)
    return _coerced(leaf)


def _of_class(cls: type, *, nullable: bool) -> Check:
    allowed = {cls, type(None)} if nullable else {cls}
    return lambda values: values if allowed.issuperset(map(type, values)) else None


def _ints(values: list[Any]) -> list[Any] | None:
    if not _INTS.issuperset(map(type, values)):
        return None
    try:
        array("i", values)  # GraphQL's Int has 32 bits, and so has the array's
    except OverflowError:
        return None
    return values


def _floats(values: list[Any]) -> list[Any] | None:
    # Infinity and NaN survive a sum; a sum that overflows is only looked at more closely.
    return values if _FLOATS.issuperset(map(type, values)) and isfinite(sum(values)) else None


def _or_null(check: Check) -> Check:
    """The same for columns that may have nulls, which the check itself does not know."""

    def check_others(values: list[Any]) -> list[Any] | None:
        if NoneType not in set(map(type, values)):
            return check(values)
        return values if check([each for each in values if each is not None]) is not None else None

    return check_others


def _members(leaf: GraphQLEnumType, *, nullable: bool) -> Check:
    """By the identity of the enum's members, which lets values that only equal one be looked at."""
    cls = getattr(leaf, "wrapped_cls", None)
    names: dict[int, str | None] = {}
    if isinstance(cls, type) and issubclass(cls, Enum):
        names = {id(member): leaf.coerce_output_value(member) for member in cls}
    if nullable:
        names[id(None)] = None

    def check(values: list[Any]) -> list[Any] | None:
        try:
            return [names[id(value)] for value in values]
        except KeyError:
            return None

    return check


def _coerced(leaf: GraphQLScalarType) -> Check:
    coerce = leaf.coerce_output_value

    def check(values: list[Any]) -> list[Any] | None:
        if not plain(values):
            return None
        try:
            completed = [coerce(value) for value in values]
        except Exception:  # noqa: BLE001 - which one it was, and where, is found out item by item
            return None
        return None if any(map(is_null, completed)) else completed

    return check
