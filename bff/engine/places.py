"""Where columns stand in the response.

A place belongs to a whole column, so that a path is made only for the element that needs one: because it failed, or
because a resolver looks at `info.path`.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec
from graphql.pyutils import Path

if TYPE_CHECKING:
    from bff.engine.plan import Field


class Step(NamedTuple):
    """One step of a path: its key, how far down it is printed, and whether a null may stand there."""

    key: str | int
    order: int
    nullable: bool
    type_name: str | None


class Place(msgspec.Struct, eq=False):
    """The place of a column whose rows are those of `above`; each kind of place adds steps to their paths."""

    above: Place

    def climb(self, row: int, _steps: list[Step]) -> int:
        """Add the step that leads to `row`, if there is one; the row of `above` that it is in."""
        return row

    def steps(self, row: int) -> list[Step]:
        """The way from the root to `row`."""
        steps: list[Step] = []
        place = self
        while place is not ROOT:
            row = place.climb(row, steps)
            place = place.above
        steps.reverse()
        return steps

    def path(self, row: int) -> Path:
        """The same, as graphql-core has it."""
        path: Path | None = None
        for step in self.steps(row):
            path = Path(path, step.key, step.type_name)
        return cast("Path", path)


ROOT = Place(cast("Place", None))
"""The place of the root value, which has no path."""


class FieldPlace(Place):
    """The values of one field of all objects of `above`."""

    field: Field

    def climb(self, row: int, steps: list[Step]) -> int:
        field = self.field
        steps.append(Step(field.key, field.order, field.nullable, field.parent_type.name))
        return row


class ItemsPlace(Place):
    """The items of all lists of `above`, one list after the other."""

    lengths: list[int]
    nullable: bool
    _ends: list[int] | None = None

    def climb(self, row: int, steps: list[Step]) -> int:
        if self._ends is None:
            self._ends = list(accumulate(self.lengths))
        which = bisect_right(self._ends, row)
        index = row - (self._ends[which - 1] if which else 0)
        steps.append(Step(index, index, self.nullable, None))
        return which


class ItemPlace(Place):
    """One item, alone, of the list in one row of `above`."""

    row: int
    index: int
    nullable: bool

    def climb(self, _row: int, steps: list[Step]) -> int:
        steps.append(Step(self.index, self.index, self.nullable, None))
        return self.row


class SomePlace(Place):
    """Some rows of `above`."""

    rows: list[int]

    def climb(self, row: int, _steps: list[Step]) -> int:
        return self.rows[row]
