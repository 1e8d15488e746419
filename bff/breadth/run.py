"""One execution of a plan: on whose behalf, and what has failed so far."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from graphql import GraphQLError, GraphQLResolveInfo, located_error
from graphql.execution import Executor

from bff.breadth.places import Places, Step, path_of
from bff.breadth.plan import FieldPlan

Completed = tuple[list[Any], frozenset[int]]
"""A column's values, and the rows in which a null stands that the type forbids."""

Resolve = Callable[["Run", FieldPlan, list[Any], Places], Completed | Coroutine[Any, Any, Completed]]


class Run:
    """What all columns of one execution share."""

    def __init__(self, executor: Executor[Any], resolve: Resolve) -> None:
        self.executor = executor
        self._resolve = resolve
        self._failures: list[tuple[Sequence[Step], GraphQLError]] = []

    def resolve(
        self, field: FieldPlan, sources: list[Any], places: Places
    ) -> Completed | Coroutine[Any, Any, Completed]:
        """The completed column of a field; at once where nothing has to be waited for."""
        return self._resolve(self, field, sources, places)

    def fail(self, error: Exception, steps: Sequence[Step], field: FieldPlan) -> None:
        self._failures.append((steps, located_error(error, field.nodes, [step.key for step in steps])))

    def info(self, field: FieldPlan, places: Places, row: int) -> GraphQLResolveInfo[Any]:
        """What a resolver is told; where it is told so for many objects, the path is that of the first."""
        return self.executor.build_resolve_info(field.definition, field.nodes, field.parent, path_of(places.steps(row)))

    def errors(self) -> list[GraphQLError]:
        """In the document's order, without those below a position that an earlier error has made null already."""
        errors: list[GraphQLError] = []
        nulls: set[tuple[str | int, ...]] = set()
        for steps, error in sorted(self._failures, key=lambda failure: [step.order for step in failure[0]]):
            path = tuple(step.key for step in steps)
            if any(path[:length] in nulls for length in range(len(path) + 1)):
                continue
            depth = len(steps)
            while depth and not steps[depth - 1].nullable:
                depth -= 1
            nulls.add(path[:depth])
            errors.append(error)
        return errors
