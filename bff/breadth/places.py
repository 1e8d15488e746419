"""Where the values of a column stand in the answer: worked out for one value, and only when somebody has to know."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from graphql.pyutils import Path


class Step(NamedTuple):
    """One step of a path.

    Attributes:
        key: a response key or an index.
        order: its place among its siblings, for errors in the document's order.
        nullable: whether a null may stand here.
        type_name: of the object that a response key belongs to.
    """

    key: str | int
    order: int
    nullable: bool
    type_name: str | None


class Places(ABC):
    """The places of one column."""

    @abstractmethod
    def steps(self, row: int) -> list[Step]:
        """From the root to the value of that row."""

    def path(self, row: int) -> Path:
        """The same, as graphql-core has it."""
        path: Path | None = None
        for step in self.steps(row):
            path = Path(path, step.key, step.type_name)
        assert path is not None  # noqa: S101 - the root itself is never a value
        return path


class Root(Places):
    def steps(self, row: int) -> list[Step]:  # noqa: ARG002 - there is one row
        return []


class Fields(Places):
    """A field of each object of a column."""

    __slots__ = ("above", "step")

    def __init__(self, above: Places, step: Step) -> None:
        self.above = above
        self.step = step

    def steps(self, row: int) -> list[Step]:
        return [*self.above.steps(row), self.step]


class Items(Places):
    """All items of all lists of a column, one after another."""

    __slots__ = ("_ends", "above", "lengths", "nullable")

    def __init__(self, above: Places, lengths: Sequence[int], *, nullable: bool) -> None:
        self.above = above
        self.lengths = lengths
        self.nullable = nullable
        self._ends: list[int] = []

    def steps(self, row: int) -> list[Step]:
        if not self._ends:
            self._ends = list(accumulate(self.lengths))
        outer = bisect_right(self._ends, row)
        index = row - (self._ends[outer - 1] if outer else 0)
        return [*self.above.steps(outer), Step(index, index, self.nullable, None)]


class Some(Places):
    """Some rows of a column."""

    __slots__ = ("above", "rows")

    def __init__(self, above: Places, rows: Sequence[int]) -> None:
        self.above = above
        self.rows = rows

    def steps(self, row: int) -> list[Step]:
        return self.above.steps(self.rows[row])
