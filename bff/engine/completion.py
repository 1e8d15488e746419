"""Completing columns: from what resolvers return to what is sent, by the type of the position (§6.4.3).

A completion takes a whole column. If all of it is as expected, which the classes of its values tell, it goes the direct
way; otherwise it is sorted out row by row, and what is left goes the same direct way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from bff.engine.columns import Column
from bff.engine.failures import Failure
from bff.engine.pending import Pending
from bff.engine.places import Place
from bff.engine.run import Run
from bff.engine.values import is_null

if TYPE_CHECKING:
    from bff.engine.plan import Field


class Completion(ABC):
    """Completes the values at one position of the plan.

    Args:
        field: whose values or items they are.
        required: no null may stand at the position.
    """

    __slots__ = ("field", "required")

    def __init__(self, field: Field, *, required: bool) -> None:
        self.field = field
        self.required = required

    @abstractmethod
    def complete(self, run: Run, values: list[Any], place: Place) -> Column | Pending[Column]:
        """The completed column. Values that are exceptions are errors, and awaitable ones are awaited."""

    def straight(self, run: Run, values: list[Any]) -> list[Any] | None:  # noqa: ARG002 - what is asked for below is not at hand
        """The completed values, if no more is to be done than to read attributes; otherwise None, with nothing done."""
        return None

    def fail(self, run: Run, place: Place, row: int, error: BaseException, lost: set[int]) -> None:
        run.failures.append(Failure(place.steps(row), error, self.field.nodes))
        if self.required:
            lost.add(row)

    def usable(self, run: Run, values: list[Any], place: Place) -> tuple[list[int], set[int]]:
        """The rows that have a value to complete, and those that are lost, since theirs is null or an error."""
        rows: list[int] = []
        lost: set[int] = set()
        for row, value in enumerate(values):
            if isinstance(value, BaseException):
                self.fail(run, place, row, value, lost)
            elif not is_null(value):
                rows.append(row)
            elif self.required:
                self.fail(run, place, row, self.missing(), lost)
        return rows, lost

    def missing(self) -> TypeError:
        return TypeError(f"Cannot return null for non-nullable field {self.field.full_name}.")
