"""Where columns stand in the response.

A place belongs to a whole column, so that a path is made only for the element that needs one: because it failed, or
because a resolver looks at `info.path`.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, cast

from graphql.pyutils import Path

if TYPE_CHECKING:
    from bff.engine.plan import Field


class Step(NamedTuple):
    """One step of a path: its key, how far down it is printed, and whether a null may stand there."""

    key: str | int
    order: int
    nullable: bool
    type_name: str | None


class Place:
    """The place of a column whose rows are those of `above`; each kind of place adds steps to their paths."""

    __slots__ = ("above",)

    def __init__(self, above: Place) -> None:
        self.above = above

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


class _Root(Place):
    """The place of the root value, which has no path."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(self)


ROOT = _Root()


class FieldPlace(Place):
    """The values of one field of all objects of `above`."""

    __slots__ = ("_field",)

    def __init__(self, above: Place, field: Field) -> None:
        self.above = above
        self._field = field

    def climb(self, row: int, steps: list[Step]) -> int:
        field = self._field
        steps.append(Step(field.key, field.order, field.nullable, field.parent_type.name))
        return row


class ItemsPlace(Place):
    """The items of all lists of `above`, one list after the other."""

    __slots__ = ("_ends", "_lengths", "_nullable")

    def __init__(self, above: Place, lengths: list[int], *, nullable: bool) -> None:
        self.above = above
        self._lengths = lengths
        self._nullable = nullable
        self._ends: list[int] | None = None

    def climb(self, row: int, steps: list[Step]) -> int:
        if self._ends is None:
            self._ends = list(accumulate(self._lengths))
        which = bisect_right(self._ends, row)
        index = row - (self._ends[which - 1] if which else 0)
        steps.append(Step(index, index, self._nullable, None))
        return which


class ItemPlace(Place):
    """One item, alone, of the list in one row of `above`."""

    __slots__ = ("_index", "_nullable", "_row")

    def __init__(self, above: Place, row: int, index: int, *, nullable: bool) -> None:
        self.above = above
        self._row = row
        self._index = index
        self._nullable = nullable

    def climb(self, _row: int, steps: list[Step]) -> int:
        steps.append(Step(self._index, self._index, self._nullable, None))
        return self._row


class SomePlace(Place):
    """Some rows of `above`."""

    __slots__ = ("_rows",)

    def __init__(self, above: Place, rows: list[int]) -> None:
        self.above = above
        self._rows = rows

    def climb(self, row: int, _steps: list[Step]) -> int:
        return self._rows[row]
