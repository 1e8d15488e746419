"""Leaf values: a whole column is checked at the speed of C, and item by item only where something is unusual."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from enum import Enum
from math import isfinite
from typing import Any

from graphql import (
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLFloat,
    GraphQLID,
    GraphQLInt,
    GraphQLScalarType,
    GraphQLString,
    Undefined,
)

Check = Callable[[list[Any]], list[Any] | None]
"""The completed column, or None where it has to be looked at item by item."""

_EXACT = {"String": str, "ID": str, "Boolean": bool}
_BUILT_IN = (GraphQLString, GraphQLID, GraphQLBoolean, GraphQLInt, GraphQLFloat)


def check_of(leaf: GraphQLScalarType | GraphQLEnumType, *, nullable: bool) -> Check:
    if leaf is GraphQLInt:
        return _ints
    if leaf is GraphQLFloat:
        return _floats
    if any(leaf is each for each in _BUILT_IN):
        return _of_class(_EXACT[leaf.name], nullable=nullable)
    if isinstance(leaf, GraphQLEnumType):
        return _members(leaf, nullable=nullable)
    return _coerced(leaf)


def _of_class(cls: type, *, nullable: bool) -> Check:
    allowed = {cls, type(None)} if nullable else {cls}
    return lambda values: values if allowed.issuperset(map(type, values)) else None


def _ints(values: list[Any]) -> list[Any] | None:
    if set(map(type, values)) != {int}:
        return None
    try:
        array("i", values)  # GraphQL's Int has 32 bits, and so has the array's
    except OverflowError:
        return None
    return values


def _floats(values: list[Any]) -> list[Any] | None:
    # Infinity and NaN survive a sum; a sum that overflows is only looked at more closely.
    return values if set(map(type, values)) == {float} and isfinite(sum(values)) else None


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
        if any(value is None or value is Undefined or isinstance(value, BaseException) for value in values):
            return None
        try:
            completed = [coerce(value) for value in values]
        except Exception:  # noqa: BLE001 - which one it was, and where, is found out item by item
            return None
        return None if None in completed or Undefined in completed else completed

    return check
