"""One execution of a plan: on whose behalf, and what has failed so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from graphql import GraphQLError, GraphQLResolveInfo, located_error
from graphql.execution import Executor

from bff.breadth.places import Places, Step
from bff.breadth.plan import FieldPlan
from bff.breadth.waiting import Work

Completed: TypeAlias = tuple[list[Any], frozenset[int]]
"""A column's values, and the rows in which a null stands that the type forbids."""

Resolve: TypeAlias = Callable[["Run", FieldPlan, list[Any], Places], Completed | Work[Completed]]


class Run:
    """What all columns of one execution share."""

    def __init__(self, executor: Executor[Any], resolve: Resolve) -> None:
        self.executor = executor
        self._resolve = resolve
        self._failures: list[tuple[list[Step], FieldPlan, Exception]] = []

    def resolve(self, field: FieldPlan, sources: list[Any], places: Places) -> Completed | Work[Completed]:
        """The completed column of a field; at once where nothing has to be waited for."""
        return self._resolve(self, field, sources, places)

    def fail(self, error: Exception, places: Places, row: int, field: FieldPlan) -> None:
        self._failures.append((places.steps(row), field, error))

    def info(self, field: FieldPlan, places: Places, row: int) -> GraphQLResolveInfo[Any]:
        """What a resolver is told; where it is told so for many objects, the path is that of the first."""
        return self.executor.build_resolve_info(field.definition, field.nodes, field.parent, places.path(row))

    def errors(self) -> list[GraphQLError]:
        """In the document's order, without those below a position that an earlier error has made null already."""
        errors: list[GraphQLError] = []
        nulls: set[tuple[str | int, ...]] = set()
        for steps, field, error in sorted(self._failures, key=_order):
            path = tuple(step.key for step in steps)
            if any(path[:length] in nulls for length in range(len(path) + 1)):
                continue
            depth = len(steps)
            while depth and not steps[depth - 1].nullable:
                depth -= 1
            nulls.add(path[:depth])
            errors.append(located_error(error, field.nodes, list(path)))
        return errors


def _order(failure: tuple[list[Step], FieldPlan, Exception]) -> list[int]:
    return [step.order for step in failure[0]]
