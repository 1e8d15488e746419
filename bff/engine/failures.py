"""What went wrong during one execution, and the errors that are reported of it."""

from __future__ import annotations

from typing import NamedTuple

from graphql import FieldNode, GraphQLError, located_error

from bff.engine.places import Place, Step


class Failure(NamedTuple):
    steps: list[Step]
    error: BaseException
    nodes: list[FieldNode]


class Failures:
    """Failures are collected as they are found, level by level, and reported as they would be read, top to bottom."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: list[Failure] = []

    def add(self, error: BaseException, nodes: list[FieldNode], place: Place, row: int) -> None:
        self._found.append(Failure(place.steps(row), error, nodes))

    def errors(self) -> list[GraphQLError] | None:
        """Located errors in the order of the response, without those in what is null already because of an earlier one.

        That is what an executor reports that goes depth first and stops at the first error of an object; the
        specification (§6.4.4) allows no more than one error for each null.
        """
        if not self._found:
            return None
        nulled: set[tuple[str | int, ...]] = set()
        errors: list[GraphQLError] = []
        for steps, error, nodes in sorted(self._found, key=_printed):
            path = [step.key for step in steps]
            if not any(tuple(path[:length]) in nulled for length in range(len(path) + 1)):
                nulled.add(tuple(path[: _null_at(steps)]))
                errors.append(located_error(error, nodes, path))  # type: ignore[arg-type]
        return errors


def _printed(failure: Failure) -> list[int]:
    return [step.order for step in failure.steps]


def _null_at(steps: list[Step]) -> int:
    """How many steps lead to the null that this failure makes: the nearest place that may be null, else the root."""
    return next((length for length in range(len(steps), 0, -1) if steps[length - 1].nullable), 0)
