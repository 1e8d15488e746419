"""Columns: what a field came to for all objects of its level; and how nulls travel up through them.

An object or list is lost when a null stands in it that may not. Whoever holds it writes a null in its place, or if none
may stand there either, is lost too. So nulls travel upwards as sets of rows while the response is built from below, and
nothing that is finished is ever changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec


class Column(msgspec.Struct, eq=False):
    """Completed values of all rows, and the rows that are lost, whose values mean nothing.

    Attributes:
        values: one for each row.
        lost: an empty set or None if no row is.
    """

    values: list[Any]
    lost: set[int] | None = None

    @property
    def all_lost(self) -> bool:
        return bool(self.lost) and len(self.lost or ()) == len(self.values)


def all_lost(count: int) -> Column:
    return Column([None] * count, set(range(count)))


def nulled(column: Column) -> Column:
    """The column where nulls may stand: its lost rows are null, and nothing above is lost by it."""
    if not column.lost:
        return column
    values = column.values.copy()
    for row in column.lost:
        values[row] = None
    return Column(values)


def scattered(count: int, parts: Iterable[tuple[list[int], Column]], lost: set[int]) -> Column:
    """One column of `count` rows out of parts, each with the rows that it stands for; the others are null."""
    values: list[Any] = [None] * count
    for rows, part in parts:
        for row, value in zip(rows, part.values, strict=True):
            values[row] = value
        if part.lost:
            lost = lost | {rows[each] for each in part.lost}
    return Column(values, lost)


def cut(items: list[Any], lengths: list[int]) -> list[Any]:
    """The items as lists of these lengths."""
    lists: list[Any] = []
    start = 0
    for length in lengths:
        end = start + length
        lists.append(items[start:end])
        start = end
    return lists


def regrouped(items: Column, lengths: list[int]) -> Column:
    """Lists of these lengths out of the items of all of them; a list is lost if one of its items is."""
    values = cut(items.values, lengths)
    if not items.lost:
        return Column(values)
    owners = [which for which, length in enumerate(lengths) for _ in range(length)]
    return Column(values, {owners[each] for each in items.lost})
